//! Turns the committed CRDs into one compact JSON text per served version, without description texts,
//! so that checking files needs 0.5 MB instead of 1.4 MB of YAML; and embeds the files themselves for
//! `portolan crds`, which nothing else reads.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let folder = manifest.join("../config/crd/gateway-api/experimental");
    println!("cargo:rerun-if-changed={}", folder.display());
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut table = String::from("&[\n");
    for file in manifests(&folder)? {
        add_crd(&file, &out, &mut table).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    table.push_str("]\n");
    fs::write(out.join("schemas.rs"), table)?;
    for channel in ["standard", "experimental"] {
        embed(&manifest.join("../config/crd/gateway-api").join(channel), &out.join(format!("{channel}.rs")))?;
    }
    Ok(())
}

/// Writes a table of the folder's manifests as they are.
fn embed(folder: &Path, table: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut text = String::from("&[\n");
    for file in manifests(folder)? {
        let name = file.file_name().and_then(|name| name.to_str()).ok_or("a file's name is no text")?;
        let path = fs::canonicalize(&file)?;
        let path = path.to_str().ok_or("a file's path is no text")?;
        writeln!(text, "    File {{ name: {name:?}, text: include_str!({path:?}) }},")?;
    }
    text.push_str("]\n");
    fs::write(table, text)?;
    Ok(())
}

/// The CRDs of a folder, sorted.
fn manifests(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let files = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = files.collect::<Result<Vec<_>, _>>()?;
    files.retain(|file| {
        file.extension().is_some_and(|ext| ext == "yaml") && !file.ends_with("kustomization.yaml")
    });
    files.sort();
    Ok(files)
}

/// Writes one JSON file for each served version of the CRD in `file` and its entries into `table`.
fn add_crd(file: &Path, out: &Path, table: &mut String) -> Result<(), Box<dyn Error>> {
    let crd: Value = serde_saphyr::from_str(&fs::read_to_string(file)?)?;
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("a text is missing");
    let (group, kind, plural) =
        (text(&spec["group"])?, text(&spec["names"]["kind"])?, text(&spec["names"]["plural"])?);
    let namespaced = text(&spec["scope"])? == "Namespaced";
    for version in spec["versions"].as_array().ok_or("no versions")? {
        if version["served"] != Value::Bool(true) {
            continue;
        }
        let name = text(&version["name"])?;
        let mut schema = version["schema"]["openAPIV3Schema"].clone();
        strip_descriptions(&mut schema);
        let file = format!("{plural}.{name}.json");
        fs::write(out.join(&file), serde_json::to_string(&schema)?)?;
        writeln!(
            table,
            "    Embedded {{ group: {group:?}, version: {name:?}, kind: {kind:?}, plural: {plural:?}, \
             namespaced: {namespaced}, json: include_str!(concat!(env!(\"OUT_DIR\"), \"/{file}\")) }},",
        )?;
    }
    Ok(())
}

/// Removes the `description` of every schema node; a property that is itself named `description` stays.
fn strip_descriptions(schema: &mut Value) {
    let Value::Object(node) = schema else { return };
    node.remove("description");
    for (keyword, value) in node.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(strip_descriptions),
            ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => {
                branches.iter_mut().for_each(strip_descriptions);
            }
            ("items" | "not" | "additionalProperties", value) => strip_descriptions(value),
            _ => {}
        }
    }
}
