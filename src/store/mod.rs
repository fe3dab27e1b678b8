//! The tenant's window state: always equal to the fold of its changelogs up to the positions written beside the data.

pub mod identity;
pub mod keys;
pub mod progress;
pub mod settings;

pub mod port;

mod damage;
pub mod lock;
mod log_files;
pub mod memory;
mod recent;
pub mod rocks;
pub mod set_aside;

pub use identity::WindowIdentity;
pub use memory::Memory;
pub use port::{Changes, Entry, ScanMax, StateChange, StateStore, StoreFault, WindowStoreId};
pub use progress::{ChangelogProgress, LoggedProgress, Progress, Swept};
pub use rocks::{Contents, Store, StoredWindow, inspect};
pub use set_aside::set_aside;
pub use settings::Settings;
