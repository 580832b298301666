//! Who reaches whom.

use crate::Result;
use crate::node::Node;

/// The pairs of nodes to which one of `some` belongs.
fn pairs<'a>(nodes: &'a [Node], some: &'a [usize]) -> impl Iterator<Item = (&'a Node, &'a Node)> {
    nodes.iter().enumerate().flat_map(move |(a, node)| {
        let others = nodes.iter().enumerate().skip(a + 1);
        others
            .filter(move |(b, _)| some.contains(&a) || some.contains(b))
            .map(move |(_, other)| (node, other))
    })
}

/// Connects `some` to all.
pub(crate) async fn connect(nodes: &[Node], some: &[usize]) -> Result<()> {
    for (a, b) in pairs(nodes, some) {
        let (a, b) = (&a.net, &b.net);
        a.allow(b.id()).await?;
        b.allow(a.id()).await?;
        let address = b.listening().await?.into_iter().next();
        a.dial(address.ok_or("a node listens nowhere")?).await?;
    }
    Ok(())
}

/// Closes every connection of `some`, and lets nobody make a new one.
pub(crate) async fn cut_off(nodes: &[Node], some: &[usize]) -> Result<()> {
    for (a, b) in pairs(nodes, some) {
        a.net.deny(b.net.id()).await?;
        b.net.deny(a.net.id()).await?;
    }
    for (a, b) in pairs(nodes, some) {
        for (one, other) in [(&a.net, b.net.id()), (&b.net, a.net.id())] {
            while one.peers().await?.contains(&other) {
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(())
}
