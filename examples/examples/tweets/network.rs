//! How the nodes reach each other: libp2p on loopback with the feature, else a network in the process.

#[cfg(not(feature = "libp2p"))]
pub(crate) use in_process::Network;
#[cfg(feature = "libp2p")]
pub(crate) use loopback::Network;

#[cfg(not(feature = "libp2p"))]
mod in_process {
    use crdt_ds::sync::{Hub, Transport};

    use crate::Result;

    pub(crate) struct Network(Hub);

    impl Network {
        pub(crate) async fn start(_nodes: usize) -> Result<Self> {
            Ok(Self(Hub::new(1)))
        }

        pub(crate) fn transport(&self, index: usize) -> Transport {
            self.0.join(&index.to_string())
        }

        pub(crate) async fn cut_off(&self, nodes: &[usize]) -> Result<()> {
            let names: Vec<String> = nodes.iter().map(usize::to_string).collect();
            let alone: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
            let parts: Vec<&[&str]> = alone.iter().map(<[&str; 1]>::as_slice).collect();
            self.0.partition(&parts);
            Ok(())
        }

        pub(crate) async fn heal(&self) -> Result<()> {
            self.0.heal();
            Ok(())
        }

        pub(crate) async fn close(&self) {}
    }
}

#[cfg(feature = "libp2p")]
mod loopback {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use crdt_ds::net::Node;
    use crdt_ds::sync::Transport;

    use crate::Result;

    pub(crate) struct Network {
        nodes: Vec<Node>,
        away: Mutex<BTreeSet<usize>>,
    }

    impl Network {
        pub(crate) async fn start(nodes: usize) -> Result<Self> {
            let mut started = Vec::with_capacity(nodes);
            for _ in 0..nodes {
                let node = Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse()?);
                started.push(node.start().await?);
            }
            let network = Self {
                nodes: started,
                away: Mutex::default(),
            };
            network.connect(|_, _| true).await?;
            Ok(network)
        }

        async fn connect(&self, which: impl Fn(usize, usize) -> bool) -> Result<()> {
            for (a, node) in self.nodes.iter().enumerate() {
                for (b, other) in self.nodes.iter().enumerate().skip(a + 1) {
                    if which(a, b) {
                        let address = other.listening().await?.into_iter().next();
                        node.dial(address.ok_or("a node listens nowhere")?).await?;
                    }
                }
            }
            Ok(())
        }

        #[allow(clippy::indexing_slicing, reason = "the caller counts what it started")]
        pub(crate) fn transport(&self, index: usize) -> Transport {
            self.nodes[index].topic("crdt-ds/tweets")
        }

        pub(crate) async fn cut_off(&self, nodes: &[usize]) -> Result<()> {
            *self.away.lock().map_err(|_| "a task panicked")? = nodes.iter().copied().collect();
            for (a, node) in self.nodes.iter().enumerate() {
                for (b, other) in self.nodes.iter().enumerate() {
                    if a != b && (nodes.contains(&a) || nodes.contains(&b)) {
                        node.deny(other.id()).await?;
                    }
                }
            }
            Ok(())
        }

        pub(crate) async fn heal(&self) -> Result<()> {
            let away = std::mem::take(&mut *self.away.lock().map_err(|_| "a task panicked")?);
            for node in &self.nodes {
                for other in &self.nodes {
                    node.allow(other.id()).await?;
                }
            }
            self.connect(|a, b| away.contains(&a) || away.contains(&b))
                .await
        }

        pub(crate) async fn close(&self) {
            for node in &self.nodes {
                node.close().await;
            }
        }
    }
}
