//! A small parent with a working child: the parent sees how the child died, journals it, and starts it again.

mod child;
mod oom;
mod parent;

pub use child::{CHILD_VARIABLE, ParentLink, follow_parent};
pub use oom::{MemoryLimit, OomCounter, memory_limit};
pub use parent::{Death, Watched, supervise};
