//! What the two machines say to each other: JSON values, one a line.
