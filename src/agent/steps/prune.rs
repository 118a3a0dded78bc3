//! shim
use super::Work;
use crate::model::journal::Output;
use crate::model::outcome::Failure;
pub(super) fn perform(_work: &mut Work<'_>) -> Result<Output, Failure> {
    Ok(Output::Nothing)
}
