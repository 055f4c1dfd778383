//! What it costs to classify one packet, in instructions:
//!
//! ```text
//! cargo build --release -p dpf --example cost
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!   --toggle-collect=cost::classify --toggle-collect=cost::matches \
//!   target/release/examples/cost 6 last 1000
//! ```
//!
//! Arguments: number of filters (ARP and UDP in turn, for three addresses, then
//! for more ports and networks); the packet (`first` or `last` UDP filter, `none`,
//! or `flat`: the last filter alone, without the trie); rounds. The count that is
//! collected, divided by one more than the rounds, is the cost of one packet,
//! call and return included.
use std::hint::black_box;

use dpf::packet::{arp_for, udp_to};
use dpf::{BlockId, Filter, MAX_ATOMS, Node, NodeId, Store, Tag, Trie};

const NODES: usize = 1024;

/// One block after the other. As in a kernel's linear map, the index of a node is
/// its place, and the packet path does not ask whether it exists.
struct Blocks(Box<[Node; NODES]>);

impl Store for Blocks {
    #[inline]
    fn node(&self, id: NodeId) -> &Node {
        &self.0[id.index() as usize % NODES]
    }
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.0[id.index() as usize % NODES]
    }
    fn filter(&self, _: BlockId) -> &Filter {
        unreachable!("nothing here looks for overlaps")
    }
}

#[inline(never)]
fn classify(trie: &Trie, store: &Blocks, frame: &[u8]) -> Option<Tag> {
    trie.classify(store, frame)
}

#[inline(never)]
fn matches(filter: &Filter, frame: &[u8]) -> bool {
    filter.matches(frame)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let count: u32 = args.next().map_or(6, |n| n.parse().expect("number of filters"));
    let which = args.next().unwrap_or_else(|| "last".into());
    let rounds: u32 = args.next().map_or(1000, |n| n.parse().expect("number of rounds"));
    let filters: Vec<Filter> = (0..count)
        .map(|i| {
            let address = [10, 0, 2, 15 + (i / 2 % 3) as u8];
            let port = 11211 + (i / 6) as u16;
            if i % 2 == 1 {
                udp_to(address, port)
            } else {
                arp_for([10, 0, 2 + (i / 6) as u8, address[3]])
            }
        })
        .collect();
    let mut store = Blocks(Box::new([Node::VACANT; NODES]));
    assert!(filters.len() <= NODES / MAX_ATOMS, "at most 64 filters");
    let mut trie = Trie::new();
    for (i, filter) in (0..).zip(&filters) {
        let block = BlockId::new(i).expect("few blocks");
        trie.insert(&mut store, filter, block, Tag(i)).expect("all differ");
    }
    let (target, expected) = match which.as_str() {
        "first" => (udp_to([10, 0, 2, 15], 11211), Some(Tag(1))),
        "none" => (udp_to([10, 0, 2, 9], 11211), None),
        _ => (filters[filters.len() - 1], Some(Tag(count - 1))),
    };
    let mut frame = [0u8; 106];
    for step in target.steps() {
        let dpf::Step::Atom(atom) = step else { continue };
        for (i, byte) in atom.lo.to_be_bytes().into_iter().enumerate() {
            frame[usize::from(atom.offset) + i] |= byte;
        }
    }
    let flat = which == "flat";
    if flat {
        assert!(matches(&target, &frame));
    } else {
        assert_eq!(classify(&trie, &store, &frame), expected);
    }
    for _ in 0..rounds {
        if flat {
            black_box(matches(black_box(&target), black_box(&frame)));
        } else {
            black_box(classify(black_box(&trie), black_box(&store), black_box(&frame)));
        }
    }
}
