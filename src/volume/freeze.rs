//! merged later
use std::path::Path;
pub fn thaw(_path: &Path) -> Result<bool, super::VolumeError> {
    Ok(false)
}
