//! Turns an outcome into words for a console, a step summary, a deployment status. Pure.
