//! What a Service does for proxies: one address in front of replicas, of which new connections reach one.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// See the module. Ends with this value.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    to: watch::Sender<SocketAddr>,
    task: JoinHandle<()>,
}

impl Front {
    /// In front of this replica, at an address on loopback.
    pub async fn open(replica: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, chosen) = watch::channel(replica);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut proxy, _)) = listener.accept().await {
                let replica = *chosen.borrow();
                connections.spawn(async move {
                    if let Ok(mut replica) = TcpStream::connect(replica).await {
                        // Either end may break it: then it is over for both.
                        let _ = copy_bidirectional(&mut proxy, &mut replica).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, to, task }
    }

    /// Where proxies connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another replica.
    pub fn lead_to(&self, replica: SocketAddr) {
        self.to.send_replace(replica);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
