//! A stand-in for api.github.com that remembers what it was told, inside a test or as a program of its own
//! (`cargo run --example fake-github`). Every request and every answer is checked against GitHub's own description of
//! its API when that is there; what breaks it is listed under violations.

// Each user needs another part of it.
#![allow(dead_code)]

pub(crate) mod contract;
pub(crate) mod server;
pub(crate) mod world;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use contract::Contract;
use server::{Shared, router};
use world::{Fault, Seed, World};

/// A running stand-in. It ends when it is dropped.
pub(crate) struct FakeGitHub {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

impl FakeGitHub {
    /// Starts on a free port (0) or a given one, on its own thread, so that any kind of test can use it.
    pub(crate) fn start(
        contract: Option<Arc<Contract>>,
        port: u16,
        state_file: Option<PathBuf>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(contract, state_file));
        let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let app = router(Arc::clone(&shared));
        std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                    return;
                };
                tokio::select! {
                    _ = async { axum::serve(listener, app).await } => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self {
            address,
            shared,
            stop: Some(stop),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// As in `GITHUB_API_URL`.
    pub(crate) fn api_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seed(&self, seed: Seed) {
        self.shared.world().seed(seed);
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.shared.world().faults.push(fault);
    }

    pub(crate) fn clear_faults(&self) {
        self.shared.world().faults.clear();
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.shared.world().violations.clone()
    }

    /// Something happens on GitHub that Belay did not do.
    #[allow(dead_code)] // Not every test that includes this file needs it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.shared.world());
    }

    /// Looks at the state.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.shared.world())
    }
}

impl Drop for FakeGitHub {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already.
            let _ = stop.send(());
        }
    }
}
