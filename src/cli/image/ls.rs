//! `sandpod image ls`

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::arguments::ImageLsArguments;
use super::super::table::{age, bytes, table};
use super::super::{Failure, Outcome, print, pull};
use super::{blob_bytes, facts, id};
use crate::image::Digest;
use crate::image::store::{Added, ImageStore, TreeState};

/// A part of the store that several images may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Blob(Digest),
    /// The trees of a layer, for all id maps.
    Trees(Digest),
}

pub(crate) fn ls(asked: &ImageLsArguments) -> Outcome {
    let store = pull::open_store(&facts()?)?;
    let _lock = store.shared().map_err(|error| error.into_report("could not lock the image store"))?;
    let images = store.images().map_err(|error| error.into_report("could not list the images"))?;
    if asked.quiet {
        print::text(&images.iter().map(|Added { image, .. }| format!("{}\n", id(image))).collect::<String>())?;
        return Ok(0);
    }
    let trees = tree_bytes(&store)?;
    let sizes: Vec<BTreeMap<Part, u64>> = images.iter().map(|added| parts(&store, added, &trees)).collect();
    let total: u64 = sizes.iter().flatten().collect::<BTreeMap<_, _>>().values().copied().sum();
    let names = store.names().map_err(|error| error.into_report("could not read the names of images"))?;
    let names_of = |manifest: Digest| -> Vec<&str> {
        names.iter().filter(|name| name.manifest == manifest).map(|name| name.name.as_str()).collect()
    };
    if asked.json {
        let rows: Vec<Value> = images
            .iter()
            .zip(&sizes)
            .map(|(Added { image, added }, size)| {
                json!({
                    "id": image.config_digest, "manifest": image.manifest, "names": names_of(image.manifest),
                    "platform": image.platform.to_string(), "added": added, "size": size.values().sum::<u64>(),
                })
            })
            .collect();
        print::json(&rows)?;
        return Ok(0);
    }
    let now = Timestamp::now().as_second();
    let mut rows = vec![["NAME", "ID", "PLATFORM", "ADDED", "SIZE"].map(str::to_owned).to_vec()];
    for (Added { image, added }, size) in images.iter().zip(&sizes) {
        let names = names_of(image.manifest);
        for name in if names.is_empty() { vec!["-"] } else { names } {
            let added = age(now.saturating_sub_unsigned(*added));
            let size = bytes(size.values().sum());
            rows.push(vec![name.to_owned(), id(image), image.platform.to_string(), added, size]);
        }
    }
    print::text(&table(&rows))?;
    if images.len() > 1 {
        print::notice("total", &format!("{}, each shared layer counted once", bytes(total)));
    }
    Ok(0)
}

/// Bytes of the unpacked trees of each layer.
fn tree_bytes(store: &ImageStore) -> Result<BTreeMap<Digest, u64>, Failure> {
    let mut found = BTreeMap::new();
    for tree in store.trees().map_err(|error| error.into_report("could not list the unpacked layers"))? {
        if let TreeState::Complete(diff_id) = tree.state {
            *found.entry(diff_id).or_default() += tree.bytes;
        }
    }
    Ok(found)
}

/// What an image takes on disk.
fn parts(store: &ImageStore, Added { image, added: _ }: &Added, trees: &BTreeMap<Digest, u64>) -> BTreeMap<Part, u64> {
    let documents = [image.manifest, image.config_digest];
    let blobs: BTreeSet<Digest> = documents.into_iter().chain(image.layers.iter().map(|layer| layer.blob)).collect();
    let blobs = blobs.into_iter().map(|blob| (Part::Blob(blob), blob_bytes(store, blob)));
    let tree = |diff_id: Digest| (Part::Trees(diff_id), trees.get(&diff_id).copied().unwrap_or(0));
    blobs.chain(image.layers.iter().map(|layer| layer.diff_id).chain(image.chain_id()).map(tree)).collect()
}
