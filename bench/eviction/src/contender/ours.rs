//! The store's engine, as a library.

use anyhow::{Result, anyhow, ensure};
use kvstore::Config;
use kvstore::engine::{Engine, Eviction, Expiry, Key, Mode, Stored};

use super::Contender;
use crate::request::{MAX_KEY, Request};

/// An engine.
pub struct Ours<'m> {
    engine: Engine<'m>,
    now: u32,
    /// Where values are taken from.
    value: Vec<u8>,
}

impl<'m> Ours<'m> {
    /// An empty one in this memory.
    ///
    /// # Errors
    /// There is too little.
    pub fn new(memory: &'m mut [u8], eviction: Eviction) -> Result<Self> {
        let config = Config { seed: [3, 5], eviction, ..Config::default() };
        let engine = Engine::new(memory, &config).map_err(|error| anyhow!("{error:?}"))?;
        Ok(Self { engine, now: 1, value: vec![b'v'; 1 << 20] })
    }
}

impl Contender for Ours<'_> {
    fn is_in_real_time(&self) -> bool {
        false
    }

    fn set_time(&mut self, now: u32) {
        self.now = now;
        self.engine.set_time(now);
    }

    fn read(&mut self, requests: &[Request], hits: &mut Vec<bool>) -> Result<()> {
        let mut buffer = [0; MAX_KEY];
        for request in requests {
            let key = Key::new(request.key(&mut buffer)).ok_or_else(|| anyhow!("no key"))?;
            hits.push(self.engine.get(key).is_some());
        }
        Ok(())
    }

    fn store(&mut self, requests: &[Request]) -> Result<()> {
        let mut buffer = [0; MAX_KEY];
        for request in requests {
            let key = Key::new(request.key(&mut buffer)).ok_or_else(|| anyhow!("no key"))?;
            let expiry = match request.ttl {
                0 => Expiry::NEVER,
                ttl => Expiry::at(self.now.saturating_add(ttl)),
            };
            let value = &self.value[..request.value_len as usize];
            let stored = self.engine.store(Mode::Set, key, 0, expiry, value);
            ensure!(stored == Stored::Stored, "{} bytes: {stored:?}", value.len());
        }
        Ok(())
    }

    fn items(&mut self) -> Result<u64> {
        Ok(self.engine.usage().items)
    }
}
