//! A loaded graph and its calls.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use harness::{Batch, Cure, Example, Loaded, Options, Session, Stop};
use ort::environment::Environment;
use ort::session::builder::SessionBuilder;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{Outlet, Tensor, TensorElementType, TensorRef, ValueType};
use serde_json::{Map, Value, json};

use crate::knobs::{Knobs, words_of};

const OUTPUT: &str = "sentence_embedding";
const RE_EXPORT: &str = "export the model again with `invoke export`";

/// One ONNX Runtime session.
pub struct Graph {
    session: OrtSession,
    /// Height and width of an image graph.
    image: Option<[usize; 2]>,
    takes_mask: bool,
}

/// Loads `model.onnx` once per session.
pub fn load(environment: &Environment, options: &Options, knobs: Knobs) -> Result<Loaded<Graph>, Stop> {
    let path = options.model.join("model.onnx");
    let tasks_before = tasks();
    let first = open(environment, &path, options.threads, knobs).cure(RE_EXPORT)?;
    // a session adds all its threads but the one that calls it; the C API has no other way to read the number back
    let threads = tasks() - tasks_before + 1;
    let mut shape = Shape::of(&first).with_context(|| format!("{} is not one of our graphs", path.display())).cure(RE_EXPORT)?;
    if shape.output != TensorElementType::Float32 {
        return Err(Stop::NotApplicable(format!("the graph's output is {}, not f32", shape.output)));
    }
    let precision = precision_of(&first).cure(RE_EXPORT)?;
    if precision != options.precision {
        return Err(Stop::NotApplicable(format!("precision {}: the graph is {precision}", options.precision)));
    }
    shape.settings.insert("precision".to_owned(), json!(precision));
    shape.settings.insert("threads".to_owned(), json!(threads));
    shape.settings.insert("graph_optimization_level".to_owned(), json!(knobs.level_name()));

    let mut sessions = vec![shape.session(first)];
    for _ in 1..options.sessions {
        sessions.push(shape.session(open(environment, &path, options.threads, knobs).cure(RE_EXPORT)?));
    }
    Ok(Loaded { sessions, dim: shape.dim, example: shape.example, settings: shape.settings })
}

/// A converted graph says in its metadata what its census found; the plain export says nothing.
fn precision_of(session: &OrtSession) -> Result<String> {
    let metadata = session.metadata().context("cannot read the metadata of the graph")?;
    Ok(metadata.custom("precision").unwrap_or_else(|| "fp32".to_owned()))
}

fn open(environment: &Environment, path: &Path, threads: usize, knobs: Knobs) -> Result<OrtSession> {
    ensure!(path.is_file(), "{} is missing", path.display());
    configure(environment, threads, knobs)?.commit_from_file(path).with_context(|| format!("cannot load {}", path.display()))
}

fn configure(environment: &Environment, threads: usize, knobs: Knobs) -> Result<SessionBuilder> {
    // inter-op 1 and sequential execution are the runtime's own defaults, said aloud
    let builder = OrtSession::builder(environment)?;
    let builder = words_of(builder.with_parallel_execution(false))?;
    let builder = words_of(builder.with_inter_threads(1))?;
    let builder = words_of(builder.with_intra_threads(threads))?;
    knobs.configure(builder)
}

/// Threads of this process.
fn tasks() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// What a graph takes and gives.
struct Shape {
    dim: usize,
    output: TensorElementType,
    example: Example,
    image: Option<[usize; 2]>,
    takes_mask: bool,
    settings: Map<String, Value>,
}

impl Shape {
    fn of(session: &OrtSession) -> Result<Shape> {
        let output = find(session.outputs(), OUTPUT).with_context(|| format!("it has no output {OUTPUT}"))?;
        let (output_type, output_dims) = tensor(output)?;
        let dim = fixed(output_dims, 1).with_context(|| format!("the second dimension of {OUTPUT} is not fixed"))?;
        let (image, example) = match (find(session.inputs(), "pixel_values"), find(session.inputs(), "input_ids")) {
            (Some(pixels), None) => {
                let (_, dims) = tensor(pixels)?;
                let [height, width] = [fixed(dims, 2), fixed(dims, 3)].map(|side| side.context("the size of pixel_values is not fixed"));
                let image = [height?, width?];
                (Some(image), Example::Pixels(3 * image[0] * image[1]))
            }
            (None, Some(ids)) => (None, Example::Tokens(fixed(tensor(ids)?.1, 1).unwrap_or(32))),
            _ => return Err(anyhow!("it takes not exactly one of pixel_values and input_ids")),
        };
        let mut settings = Map::new();
        for (kind, outlets) in [("input", session.inputs()), ("output", session.outputs())] {
            for outlet in outlets {
                settings.insert(format!("{kind}_{}", outlet.name()), json!(tensor(outlet)?.0.to_string()));
            }
        }
        settings.insert("execution_mode".to_owned(), json!("ORT_SEQUENTIAL"));
        let takes_mask = find(session.inputs(), "attention_mask").is_some();
        Ok(Shape { dim, output: output_type, example, image, takes_mask, settings })
    }

    fn session(&self, session: OrtSession) -> Graph {
        Graph { session, image: self.image, takes_mask: self.takes_mask }
    }
}

fn find<'a>(outlets: &'a [Outlet], name: &str) -> Option<&'a Outlet> {
    outlets.iter().find(|outlet| outlet.name() == name)
}

fn tensor(outlet: &Outlet) -> Result<(TensorElementType, &[i64])> {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => Ok((*ty, shape)),
        other => Err(anyhow!("{} is {other}, not a tensor", outlet.name())),
    }
}

/// A dimension, if the graph fixes it (a free one is -1).
fn fixed(dims: &[i64], axis: usize) -> Option<usize> {
    dims.get(axis).and_then(|&dim| usize::try_from(dim).ok())
}

/// The output tensor, in the runtime's own memory.
struct Vectors(Tensor<f32>);

impl AsRef<[f32]> for Vectors {
    fn as_ref(&self) -> &[f32] {
        self.0.extract_tensor().1
    }
}

impl Session for Graph {
    fn embed(&mut self, batch: Batch<'_>) -> Result<impl AsRef<[f32]>> {
        // Inputs are handed on as views of a borrowed tensor: ort 2.0.0-rc.15 hangs for ever when a TensorRef itself is cloned.
        let mut outputs = match (batch, self.image) {
            (Batch::Tokens { ids, mask, lengths, width }, None) => {
                let ids = TensorRef::from_array_view(([lengths.len(), width], ids))?;
                if self.takes_mask {
                    let mask = TensorRef::from_array_view(([lengths.len(), width], mask))?;
                    let inputs = [("input_ids", SessionInputValue::from(&*ids)), ("attention_mask", SessionInputValue::from(&*mask))];
                    self.session.run(Vec::from(inputs))?
                } else {
                    self.session.run(vec![("input_ids", SessionInputValue::from(&*ids))])?
                }
            }
            (Batch::Pixels { values, rows }, Some([height, width])) => {
                let pixels = TensorRef::from_array_view(([rows, 3, height, width], values))?;
                self.session.run(vec![("pixel_values", SessionInputValue::from(&*pixels))])?
            }
            (Batch::Tokens { .. }, Some(_)) => return Err(anyhow!("this graph takes images, and the plan holds tokens")),
            (Batch::Pixels { .. }, None) => return Err(anyhow!("this graph takes tokens, and the plan holds images")),
        };
        let vectors = outputs.remove(OUTPUT).with_context(|| format!("the runtime gave no {OUTPUT}"))?;
        Ok(Vectors(vectors.downcast()?))
    }
}
