//! A TCP relay that a test can close: connections that break, servers that cannot be reached, packets that vanish.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// See the module. Ends with this value.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    open: watch::Sender<Way>,
    /// Ends the connections that there are.
    connections: Arc<Mutex<CancellationToken>>,
    task: JoinHandle<()>,
}

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Through,
    /// New connections are reset.
    Refused,
    /// Bytes stay where they are until the way is free again.
    Held,
}

impl Gate {
    /// A relay to `upstream`, at this address.
    pub(super) async fn open(at: SocketAddr, upstream: String) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, way) = watch::channel(Way::Through);
        let connections = Arc::new(Mutex::new(CancellationToken::new()));
        let alive = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *way.borrow() == Way::Refused {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let end = alive.lock().unwrap().clone();
                tokio::spawn(relay(from_client, to_server, way.clone(), end.clone()));
                tokio::spawn(relay(from_server, to_client, way.clone(), end));
            }
        });
        Self { address, open, connections, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections; new ones are welcome.
    pub fn cut(&self) {
        std::mem::take(&mut *self.connections.lock().unwrap()).cancel();
    }

    /// Breaks all connections, and refuses new ones.
    pub fn close(&self) {
        self.open.send_replace(Way::Refused);
        self.cut();
    }

    /// Delivers nothing more, without a word.
    pub fn hold(&self) {
        self.open.send_replace(Way::Held);
    }

    /// Lets everything through again, what was held first.
    pub fn release(&self) {
        self.open.send_replace(Way::Through);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn relay(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    end: CancellationToken,
) {
    let through = async {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let count = from.read(&mut bytes).await.unwrap_or(0);
            if count == 0 || way.wait_for(|way| *way != Way::Held).await.is_err() {
                return;
            }
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = through => {}
        () = end.cancelled() => {}
    }
    // Give the other direction a moment to deliver its last bytes: both ends see a close, not a lost answer.
    let _ = tokio::time::timeout(Duration::from_secs(1), to.shutdown()).await;
}
