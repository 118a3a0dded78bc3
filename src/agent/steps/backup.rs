//! shim
use super::Work;
use crate::model::journal::Output;
use crate::model::outcome::Failure;
pub(super) fn perform(_work: &mut Work<'_>) -> Result<Output, Failure> {
    Ok(Output::Nothing)
}
pub(super) fn undo(_work: &mut Work<'_>) -> Result<(), Failure> {
    Ok(())
}
pub(super) fn estimate(_work: &Work<'_>, _project: &str) -> Result<u64, Failure> {
    Ok(0)
}
