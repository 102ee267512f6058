//! The tools of a running cache, asked over the socket in its directory.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::content::Content;
use crate::store_tools::{ControlSocket, Tools};

/// None where the file system takes no socket: pulls go on without tools.
pub(super) fn prepare(directory: &Path, content: &Content) -> Option<(ControlSocket, Tools)> {
    let Content {
        store,
        ledger,
        rights,
    } = content.clone();
    let tools = Tools::new(store, ledger, rights, true);
    match ControlSocket::bind(directory) {
        Ok(socket) => Some((socket, tools)),
        Err(error) => {
            tracing::warn!(%error, "no control socket; `cache-node store` cannot ask this cache");
            None
        }
    }
}

/// Does what is asked until `stop`.
pub(super) async fn serve(tools: Option<(ControlSocket, Tools)>, stop: CancellationToken) {
    if let Some((socket, tools)) = tools
        && let Err(error) = socket.serve(tools, stop).await
    {
        tracing::error!(%error, "the control socket cannot be served");
    }
}
