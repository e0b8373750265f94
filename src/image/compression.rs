//! Decompression of layers (image-spec, layer.md): none, gzip or zstd, by the media type; bounded in memory and in the
//! bytes that come out.

use std::io::{self, BufReader, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Bytes of compressed input that are read at once.
const INPUT: usize = 128 * 1024;
/// A window of 8 MiB: the most that a decoder has to take (RFC 8878, 3.1.1.1.2), and what levels up to 19 need. More is an
/// error of the decoder.
const MAX_ZSTD_WINDOW: u32 = 23;
/// Real layers shrink to a third; logs and empty databases to a two-hundredth.
const MAX_RATIO: u64 = 1000;
/// Below this the ratio is not looked at: a small blob harms nobody.
const RATIO_FREE: u64 = 64 << 20;

/// The media types of layers, and whether a layer of it may be pushed (`nondistributable` ones were withdrawn).
#[must_use]
pub fn of_media_type(media_type: &str) -> Option<Compression> {
    Some(match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Compression::None,
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Compression::Gzip,
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd,
        _ => return None,
    })
}

/// A reader of the uncompressed bytes. Every member of a gzip file and every frame of a zstd file is read: pigz, pzstd and
/// zstd:chunked write several.
///
/// # Errors
/// On reading: bytes that are not of this compression, a zstd window of more than 8 MiB, and more than a thousand bytes
/// for each one that was read.
pub fn decompress<'a>(input: impl Read + Send + 'a, compression: Compression) -> io::Result<Box<dyn Read + Send + 'a>> {
    let input = BufReader::with_capacity(INPUT, Counted { inner: input, count: std::sync::Arc::default() });
    let count = input.get_ref().count.clone();
    let output: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => return Ok(Box::new(input)),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW)?;
            Box::new(decoder)
        }
    };
    Ok(Box::new(RatioLimit { output, produced: 0, consumed: count }))
}

type Count = std::sync::Arc<std::sync::atomic::AtomicU64>;

struct Counted<R> {
    inner: R,
    count: Count,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(count)
    }
}

struct RatioLimit<R> {
    output: R,
    produced: u64,
    consumed: Count,
}

impl<R: Read> Read for RatioLimit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        self.produced += count as u64;
        let consumed = self.consumed.load(std::sync::atomic::Ordering::Relaxed);
        if self.produced > RATIO_FREE && self.produced / MAX_RATIO > consumed {
            let text = format!("{consumed} compressed bytes became more than {MAX_RATIO} times as many");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("finished")
    }

    fn zstd(bytes: &[u8], window: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.window_log(window).expect("a window");
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("finished")
    }

    fn read(bytes: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes, compression)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_member_and_frame_is_read() {
        for (compress, compression) in [
            (&gzip as &dyn Fn(&[u8]) -> Vec<u8>, Compression::Gzip),
            (&|bytes: &[u8]| zstd(bytes, 20), Compression::Zstd),
            (&|bytes: &[u8]| bytes.to_vec(), Compression::None),
        ] {
            let parts = [compress(b"one"), compress(b""), compress(&[2; 300_000])].concat();
            let expected = [&b"one"[..], &[2; 300_000]].concat();
            assert!(read(&parts, compression).expect("read") == expected, "{compression:?}");
        }
    }

    #[test]
    fn what_is_cut_or_of_another_kind_is_an_error() {
        let noise: Vec<u8> = (0..50_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let (gzipped, zstandard) = (gzip(&noise), zstd(&noise, 20));
        for (bytes, compression) in [
            (&gzipped[..gzipped.len() - 1], Compression::Gzip),
            (&gzipped[..100], Compression::Gzip),
            (&zstandard[..zstandard.len() - 1], Compression::Zstd),
            (&zstandard, Compression::Gzip),
            (&gzipped, Compression::Zstd),
        ] {
            read(bytes, compression).expect_err("refused");
        }
    }

    /// 8 MiB are taken, 16 are not: memory is the attacker's to choose otherwise.
    #[test]
    fn a_zstd_window_is_bounded() {
        let bytes = vec![1; 20 << 20];
        assert_eq!(read(&zstd(&bytes, 23), Compression::Zstd).expect("read").len(), bytes.len());
        read(&zstd(&bytes, 24), Compression::Zstd).expect_err("a window of 16 MiB");
    }

    #[test]
    fn a_bomb_ends_early() {
        // 1 GiB of zeros is 1 MiB of gzip, and a few kilobytes of zstd.
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
        (0..256).for_each(|_| encoder.write_all(&[0; 1 << 20]).expect("written"));
        let bomb = encoder.finish().expect("finished");
        let mut reader = decompress(bomb.as_slice(), Compression::Zstd).expect("a reader");
        let error = io::copy(&mut reader, &mut io::sink()).expect_err("a bomb");
        assert!(error.to_string().contains("more than 1000 times"), "{error}");
    }
}
