//! `sandpod image inspect` and `sandpod image history`

use serde_json::{Value, json};

use super::super::arguments::{ImageHistoryArguments, ImagesArguments};
use super::super::table::{bytes, table};
use super::super::{Outcome, print, pull};
use super::{blob_bytes, facts, find};
use crate::image::store::{ImageStore, TreeState};
use crate::image::{StoredImage, StoredLayer};
use crate::report::{Report, exit_code};

/// An array, in the order in which the images were named.
pub(super) fn inspect(asked: &ImagesArguments) -> Outcome {
    let store = pull::open_store(&facts()?)?;
    let _lock = store.shared().map_err(|error| error.into_report("could not lock the image store"))?;
    let mut shown = Vec::new();
    let outcome = super::super::each(&asked.images, |typed| {
        shown.push(image_json(&store, &find(&store, typed)?.image)?);
        Ok(())
    });
    print::json(&shown)?;
    outcome
}

fn image_json(store: &ImageStore, image: &StoredImage) -> Result<Value, Report> {
    let failed = |error: crate::image::store::StoreError| error.into_report("could not read the image store");
    let names: Vec<String> =
        store.names_of(image.manifest).map_err(failed)?.into_iter().map(|name| name.name).collect();
    let trees = store.trees().map_err(failed)?;
    let StoredImage { manifest, config_digest, platform, config, layers } = image;
    let layer = |&StoredLayer { blob, size, compression, diff_id }: &StoredLayer| {
        let trees = trees.iter().filter(|tree| tree.state == TreeState::Complete(diff_id));
        let unpacked: Vec<Value> = trees.map(|tree| json!({ "idMap": tree.map_key, "bytes": tree.bytes })).collect();
        json!({
            "blob": blob, "size": size, "compression": compression, "diffId": diff_id,
            "blobIsHere": blob_bytes(store, blob) > 0, "unpacked": unpacked,
        })
    };
    Ok(json!({
        "names": names, "manifest": manifest, "id": config_digest, "platform": platform.to_string(), "config": config,
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    }))
}

/// One step of a configuration's `history` (image-spec, config.md): the last one first, as docker shows them.
pub(super) fn history(asked: &ImageHistoryArguments) -> Outcome {
    let store = pull::open_store(&facts()?)?;
    let _lock = store.shared().map_err(|error| error.into_report("could not lock the image store"))?;
    let image = find(&store, &asked.image)?.image;
    let failed = |why: String| {
        Report::new(exit_code::FAILURE, format!("could not read the configuration of `{}`", asked.image)).because(why)
    };
    let config = store.document(image.config_digest).map_err(|error| failed(error.to_string()))?.unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).map_err(|error| failed(error.to_string()))?;
    let steps = config["history"].as_array().cloned().unwrap_or_default();
    // A step without `empty_layer` made a layer.
    let mut layers = image.layers.iter();
    let mut rows: Vec<(Value, Option<&StoredLayer>)> = Vec::new();
    for step in steps {
        let layer = if step["empty_layer"] == Value::Bool(true) { None } else { layers.next() };
        rows.push((step, layer));
    }
    // Of layers whose step is not told.
    rows.extend(layers.map(|layer| (Value::Null, Some(layer))));
    rows.reverse();
    if asked.json {
        let row = |(step, layer): &(Value, Option<&StoredLayer>)| {
            json!({
                "created": step["created"], "createdBy": step["created_by"], "comment": step["comment"],
                "layer": layer.map(|layer| layer.diff_id), "size": layer.map(|layer| layer.size),
            })
        };
        print::json(&rows.iter().map(row).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut lines = vec![["LAYER", "SIZE", "CREATED", "CREATED BY"].map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|(step, layer)| {
        let id = layer.map_or_else(|| "-".to_owned(), |layer| layer.diff_id.hex().chars().take(12).collect());
        let size = layer.map_or_else(|| "-".to_owned(), |layer| bytes(layer.size));
        vec![id, size, text(&step["created"]), text(&step["created_by"])]
    }));
    print::text(&table(&lines))?;
    Ok(0)
}
