//! The local socket: accepting connections ([`connection`]), answering reads ([`reads`]), and children that are
//! kept for reads ([`readers`]). Never here: a decision.

mod codec;
pub mod connection;
mod data_reads;
mod label_reads;
pub mod readers;
mod reads;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::paths::SOCKET_PATH_BYTES_MAX;
use interprocess::local_socket::tokio::{Listener, prelude::*};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use tokio::sync::Semaphore;

use connection::Room;

/// Connections at once; more wait in the system's own queue.
const CONNECTIONS_MAX: usize = 256;

/// Mode of the socket of the daemon's own user.
pub const OWN_MODE: u32 = 0o600;
/// Mode of the socket of all users that are let in: who may connect is asked of the system, not of the file.
pub const SHARED_MODE: u32 = 0o666;

/// Binds a socket. The caller holds the daemon's lock, so whatever is at the path is stale.
pub fn bind(path: &Path, mode: u32) -> Result<Listener, Failure> {
    let place = path.display().to_string();
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let message = format!("the socket's path has {bytes} bytes, the system allows {SOCKET_PATH_BYTES_MAX}");
        return Err(Failure::new(FailureCode::InvalidRequest, message).at(place).hint(HintCode::MoveState));
    }
    let fail = |message: String| Failure::new(FailureCode::FileUnreadable, message).at(place.clone());
    match std::fs::symlink_metadata(path) {
        Ok(meta) if std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => {
            std::fs::remove_file(path).map_err(|e| fail(format!("the stale socket cannot be removed: {e}")))?;
        }
        Ok(_) => return Err(fail("there is something at the socket's path that is no socket; move it away".into())),
        Err(_) => {}
    }
    let name = path.to_fs_name::<GenericFilePath>().map_err(|e| fail(e.to_string()))?;
    ListenerOptions::new()
        .name(name)
        .mode(mode as _)
        .create_tokio()
        .map_err(|e| fail(format!("the socket cannot be made: {e}")))
}

/// Binds the socket for other users. Its folder is somebody's whom they can trust: nobody but root or the daemon's own user may put
/// another socket into its place.
pub fn share(path: &Path) -> Result<Listener, Failure> {
    let refuse = |message: String| Failure::new(FailureCode::InvalidRequest, message).at(path.display().to_string());
    if !path.is_absolute() {
        return Err(refuse(format!("--share {} is not an absolute path", path.display())));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let meta = std::fs::metadata(folder).map_err(|error| refuse(format!("{}: {error}", folder.display())))?;
    let own = rustix::process::geteuid().as_raw();
    if (meta.uid() != own && meta.uid() != 0) || meta.mode() & 0o022 != 0 {
        let folder = folder.display();
        let message = format!(
            "others could put a socket of theirs into {folder}; choose a folder that only you can write: mkdir -m 0755 {folder}/hone"
        );
        return Err(refuse(message));
    }
    let listener = bind(path, SHARED_MODE)?;
    // The process's own mask took the others' rights away.
    let open = std::fs::set_permissions(path, std::fs::Permissions::from_mode(SHARED_MODE));
    open.map_err(|error| refuse(format!("others cannot be let in: {error}")))?;
    Ok(listener)
}

/// Accepts connections for ever.
pub async fn accept(listener: Listener, room: Arc<Room>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let room = room.clone();
                tokio::spawn(async move {
                    connection::serve(stream, room).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of files, most likely: wait for some to be closed rather than spin.
                eprintln!("honed: a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
