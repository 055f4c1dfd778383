//! UDP for cooperative tasks: datagrams that are awaited.
//!
//! One task drives the stack ([`UdpSocket::drive`]); any number of others
//! receive and send. Sending wakes the driver, receiving is woken by it.

use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use exo_abi::Error;

use super::smol::{NotSent, SmolUdp};
use super::{Endpoint, NetDevice, UdpStack};
use crate::sched::{Events, yield_now};
use crate::time::Clock;

/// A stack that tasks share.
pub struct UdpSocket {
    stack: RefCell<SmolUdp>,
    driver: RefCell<Option<Waker>>,
}

impl UdpSocket {
    /// Shares `stack`.
    pub const fn new(stack: SmolUdp) -> Self {
        Self { stack: RefCell::new(stack), driver: RefCell::new(None) }
    }

    /// Moves frames between `device` and the stack, for ever.
    ///
    /// Returns only when the device fails.
    pub async fn drive<D: NetDevice>(
        &self,
        mut device: D,
        clock: &impl Clock,
        events: &Events,
    ) -> Error {
        poll_fn(|context| {
            *self.driver.borrow_mut() = Some(context.waker().clone());
            Poll::Ready(())
        })
        .await;
        loop {
            let moved = self.stack.borrow_mut().exchange(&mut device, clock.micros());
            if moved > 0 {
                if let Err(error) = device.sync() {
                    return error;
                }
                yield_now().await;
            } else {
                let delay = self.stack.borrow_mut().wait_micros(clock.micros());
                events.wait(delay.map(|micros| clock.after_micros(micros))).await;
            }
        }
    }

    /// Receives the next datagram that may be answered into `buffer`, cut to its length: not
    /// one from a service that would answer the answer ([`answerers`](super::answerers)). A
    /// client that asks such a service uses [`SmolUdp::receive`].
    ///
    /// **Blocking** until there is one.
    pub async fn receive(&self, buffer: &mut [u8]) -> (usize, Endpoint) {
        poll_fn(|context| {
            let mut stack = self.stack.borrow_mut();
            match stack.receive_request(buffer) {
                Some(datagram) => Poll::Ready(datagram),
                None => {
                    stack.wake_on_receive(context.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Queues a datagram.
    ///
    /// # Errors
    /// [`NotSent`] if the queue is full.
    pub fn send(&self, payload: &[u8], to: Endpoint) -> Result<(), NotSent> {
        self.stack.borrow_mut().send(payload, to)?;
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
        Ok(())
    }
}
