//! Networking: everything above "this frame is yours".
//!
//! Place on the packet path: step 4, between the rings that the kernel fills
//! (step 3) and the application (step 5), and back.
//!
//! | part | what it is | implementations |
//! |---|---|---|
//! | [`NetDevice`] | frames in, frames out | [`Rings`](rings::Rings), [`Wire`](wire::Wire), and in front of either [`FaultInjector`](fault::FaultInjector), [`Tap`](tap::Tap) |
//! | [`UdpStack`] | datagrams in, datagrams out | [`FastUdp`](udp::FastUdp), [`SmolUdp`](smol::SmolUdp) |
//! | [`Service`] | an application that answers | the application's own |
//! | [`TcpStack`](stream::TcpStack) | connections in, bytes out | [`FastTcp`](tcp::FastTcp), [`SmolTcp`](smol::tcp::SmolTcp); with UDP [`Dual`](dual::Dual) |
//! | [`StreamService`](stream::StreamService) | an application that serves connections | the application's own |
//! | [`UdpSocket`](socket::UdpSocket) | the same for `async` tasks | over `SmolUdp` |
//! | `bind` | makes rings and filters | guest only |
//! | [`serve`](serve::serve) | a server's loop | |
//! | [`answerers`] | which datagrams no service gets | |
//! | [`conformance`], [`stream_conformance`] | what every stack must do | |

mod announce;
pub mod answerers;
#[cfg(exo_guest)]
pub mod bind;
#[cfg(exo_hosted)]
pub use crate::hosted::bind;
pub mod conformance;
mod device;
pub mod dual;
pub mod fault;
mod link;
pub mod rings;
pub mod serve;
pub mod smol;
pub mod socket;
mod stack;
pub mod stream;
pub mod stream_conformance;
pub mod tap;
pub mod tcp;
pub mod udp;
pub mod wire;
mod words;

#[cfg(test)]
mod tests;

pub use announce::announce;
pub use device::{NetDevice, STOP, Slots, TxBuffer};
pub use exo_sum as checksum;
pub use stack::{Endpoint, NetConfig, Service, UdpStack};
