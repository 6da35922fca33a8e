//! Whether somebody asked this program to stop: Ctrl-C, or a SIGTERM. Then there is time
//! to end the servers in good order and to leave no folder behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone, Default)]
pub struct Asked(Arc<AtomicBool>);

impl Asked {
    /// From now on signals do nothing but set this.
    pub fn listen() -> std::io::Result<Self> {
        let asked = Self::default();
        let told = asked.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut interrupt, mut terminate) = {
            let _entered = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            )
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                });
                told.0.store(true, Ordering::Relaxed);
            })?;
        Ok(asked)
    }

    pub fn to_stop(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
