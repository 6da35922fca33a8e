//! Whether a folder can stand at a path: nothing is created here, but a file that
//! stands in its way is named before anything starts.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// What stands in the way, if anything does. A folder that is not there yet is fine:
/// the engine makes it.
pub fn check(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() {
        return Err(
            "\"\" is empty; allowed is the path of a folder, such as \"./data\"".to_owned(),
        );
    }
    for at in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
        // The path that was given, and the part of it that is at fault.
        let place = if at == path {
            format!("{path:?}")
        } else {
            format!("{path:?}: {at:?}")
        };
        match fs::metadata(at) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => return Err(format!("{place} is not a folder")),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if fs::symlink_metadata(at).is_ok() {
                    return Err(format!(
                        "{place} is not a folder but a link that leads nowhere"
                    ));
                }
            }
            // Something above it is a file: the next turn names it.
            Err(e) if e.kind() == ErrorKind::NotADirectory => {}
            // Whoever checks may be another user than the one who serves.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return Ok(()),
            Err(e) => return Err(format!("look at {place}: {e}")),
        }
    }
    Ok(())
}
