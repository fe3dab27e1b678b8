//! One block cache, one write-buffer budget and one budget of recent states for all stores of the process.

use rocksdb::{Cache, WriteBufferManager};

use super::recent::Budget;
use super::settings::Settings;

/// Memory shared by all stores.
#[derive(Clone)]
pub struct Memory {
    pub(super) blocks: Cache,
    pub(super) writes: WriteBufferManager,
    pub(super) recent: Budget,
}

impl Memory {
    /// Memory as configured.
    pub fn new(settings: &Settings) -> Self {
        let blocks = Cache::new_lru_cache(settings.block_cache_mib << 20);
        let writes = WriteBufferManager::new_write_buffer_manager(settings.write_buffer_mib << 20, false);
        Self { blocks, writes, recent: Budget::new(settings.recent_mib << 20) }
    }
}
