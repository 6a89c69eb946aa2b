//! Sessions: one embedder, and a pool of threads for each.

use std::env;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::utils::get_num_threads;
use harness::{Batch, Cure, Example, Loaded, Options, Stop};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Map, json};

use crate::artefact::{Config, Weights};
use crate::embedder::Embedder;
use crate::linear::{Format, Layers};

const RE_EXPORT: &str = "export the model again with `invoke export`";

pub struct Session {
    embedder: Arc<Embedder>,
    threads: ThreadPool,
}

/// Loads the artefact once; the sessions share its weights.
pub fn load(options: &Options, format: Format) -> Result<Loaded<Session>, Stop> {
    use_threads(options.threads);
    let config = Config::read(&options.model).cure(RE_EXPORT)?;
    let weights = Weights::open(&options.model).cure(RE_EXPORT)?;
    let layers = Layers::new(format);
    let Some(embedder) = Embedder::load(&config, &weights, &layers) else {
        let kind = if layers.quantised() { "quantised layers for it" } else { "such architecture" };
        return Err(Stop::NotApplicable(format!("model_type {}: this worker has no {kind}", config.model_type)));
    };
    let embedder = embedder.with_context(|| format!("cannot load {}", options.model.display())).cure(RE_EXPORT)?;
    let embedder = Arc::new(embedder);

    let sessions = (0..options.sessions).map(|_| Session::new(&embedder, options.threads));
    let sessions: Vec<Session> = sessions.collect::<Result<_>>().cure("raise the limit of threads, or ask for fewer")?;
    let mut settings = Map::new();
    settings.insert("precision".to_owned(), json!(options.precision));
    settings.insert("threads".to_owned(), json!(sessions[0].threads.current_num_threads()));
    settings.insert("gemm_threads".to_owned(), json!(get_num_threads()));
    settings.insert("weights_dtype".to_owned(), json!(weights.dtypes));
    settings.insert("linear_layers".to_owned(), json!(layers.told()));
    settings.insert("weights_shared".to_owned(), json!(options.sessions > 1));
    let example = match config.image_size {
        Some(size) => Example::Pixels(3 * size * size),
        None => Example::Tokens(config.fixed_tokens.unwrap_or(32)),
    };
    Ok(Loaded { sessions, dim: config.dim, example, settings })
}

/// Candle asks this variable, at every matrix product, into how many parts to split it. It also sizes Candle's own pool for large
/// element-wise operations, which has one thread less (the caller works too), is one for the whole process, and serves one caller at
/// a time.
fn use_threads(threads: usize) {
    // SAFETY: the process has only this thread so far, so nobody reads the environment meanwhile
    unsafe { env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
}

impl Session {
    fn new(embedder: &Arc<Embedder>, threads: usize) -> Result<Session> {
        let threads = ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start a pool of threads")?;
        Ok(Session { embedder: Arc::clone(embedder), threads })
    }
}

impl harness::Session for Session {
    fn embed(&mut self, batch: Batch<'_>) -> Result<impl AsRef<[f32]>> {
        self.threads.install(|| self.embedder.embed(batch))
    }
}
