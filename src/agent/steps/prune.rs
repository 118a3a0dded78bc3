//! shim
use super::Work;
use crate::model::journal::Output;
use crate::model::outcome::Failure;
pub(super) fn perform(_work: &mut Work<'_>) -> Result<Output, Failure> {
    Ok(Output::Nothing)
}
pub(super) fn prune_backups(_: &crate::agent::layout::Layout, _: usize) -> Result<(), Failure> {
    Ok(())
}
