//! Makes the assets what they are delivered as: under names that hold a hash of their content, and compressed.
//!
//! A module names another as `"./other.js"`, the page names them as `/assets/other.js`; both are replaced by the
//! hashed name. A module is hashed after those that it names, so that a change anywhere changes every name above
//! it, and nothing that a browser keeps is ever stale.

use std::{collections::BTreeMap, env, error::Error, fs, io::Write as _, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=assets");
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    let mut waiting = BTreeMap::new();
    for entry in fs::read_dir("assets")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a name that is not text")?;
        waiting.insert(name.to_owned(), fs::read_to_string(&path)?);
    }
    let page = waiting.remove("index.html").ok_or("there is no index.html")?;
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    let mut table = String::from("&[\n");
    while !waiting.is_empty() {
        let is_ready = |text: &String| waiting.keys().all(|other| !text.contains(&format!("\"./{other}\"")));
        let Some(name) = waiting.iter().find(|(_, text)| is_ready(text)).map(|(name, _)| name.clone()) else {
            return Err(format!("modules import each other in a circle: {:?}", waiting.keys()).into());
        };
        let mut text = waiting.remove(&name).unwrap_or_default();
        for (other, hashed) in &named {
            text = text.replace(&format!("\"./{other}\""), &format!("\"./{hashed}\""));
        }
        let (stem, kind) = name.rsplit_once('.').ok_or("a name without an ending")?;
        let hashed = format!("{stem}-{:016x}.{kind}", hash(text.as_bytes()));
        table.push_str(&entry(out, &hashed, kind, text.as_bytes())?);
        named.insert(name, hashed);
    }
    table.push_str("]\n");
    fs::write(out.join("assets.rs"), table)?;
    let mut page = page;
    for (name, hashed) in &named {
        page = page.replace(&format!("/assets/{name}"), &format!("/assets/{hashed}"));
    }
    let page = entry(out, "index.html", "html", page.as_bytes())?;
    fs::write(out.join("page.rs"), page.trim_end().trim_end_matches(','))?;
    Ok(())
}

/// Writes one asset in its two forms; gives its line of the table. Whoever takes neither gets the second unpacked.
fn entry(out: &Path, name: &str, kind: &str, plain: &[u8]) -> Result<String, Box<dyn Error>> {
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 11, 22);
    brotli.write_all(plain)?;
    fs::write(out.join(format!("{name}.br")), brotli.into_inner())?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(plain)?;
    fs::write(out.join(format!("{name}.gz")), gzip.finish()?)?;
    let kind = match kind {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "html" => "text/html; charset=utf-8",
        other => return Err(format!("{name}: no content type is known for .{other}").into()),
    };
    let bytes = |ending: &str| format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}{ending}\"))");
    let tag = hash(plain);
    Ok(format!(
        "Asset {{ name: \"{name}\", kind: \"{kind}\", tag: \"\\\"{tag:016x}\\\"\", brotli: {}, gzip: {} }},\n",
        bytes(".br"),
        bytes(".gz"),
    ))
}

/// FNV-1a: names need to differ where contents do, and no more.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
