//! The local socket: accepting connections ([`connection`]), answering reads ([`reads`]), and children that are
//! kept for reads ([`readers`]). Never here: a decision.

mod codec;
pub mod connection;
mod data_reads;
pub mod readers;
mod reads;

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

/// Binds the socket. The caller holds the daemon's lock, so whatever is at the path is stale.
pub fn bind(path: &Path) -> Result<Listener, Failure> {
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
        .mode(0o600)
        .create_tokio()
        .map_err(|e| fail(format!("the socket cannot be made: {e}")))
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
