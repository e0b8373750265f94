//! Operating system, processor and its variant (image-spec, image-index.md), and which image of several fits.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `linux/arm/v7`, in Go's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(out, "/{variant}"))
    }
}

impl Platform {
    /// `linux/amd64`, `linux/arm/v7`, or an architecture alone.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn parse(text: &str) -> Result<Platform, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(format!("`{text}` is not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT")),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(format!("`{text}` has an empty part"));
        }
        if os != "linux" {
            return Err(format!("`{os}`: images of other systems than linux cannot run here"));
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            other => other,
        };
        Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) })
    }

    /// The platform of this machine, from the name of its processor (uname(2)).
    #[must_use]
    pub fn of_machine(machine: &str) -> Platform {
        let (architecture, variant) = match machine {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "armv7l" => ("arm", Some("v7")),
            "armv6l" => ("arm", Some("v6")),
            "i386" | "i686" => ("386", None),
            other => (other, None),
        };
        let variant = variant.map(str::to_owned);
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// How well an image fits: a smaller number is better, `None` does not run. An older variant runs on a newer
    /// processor; arm64 without a variant is v8, amd64 without one is v1 (containerd, platforms/compare.go).
    fn distance(&self, image: &Platform) -> Option<u32> {
        if self.os != image.os || self.architecture != image.architecture {
            return None;
        }
        let number = |platform: &Platform| {
            let default = match platform.architecture.as_str() {
                "arm64" => 8,
                "arm" => 7,
                _ => 1,
            };
            platform.variant.as_deref().map_or(Some(default), |variant| variant.strip_prefix('v')?.parse::<u32>().ok())
        };
        number(self)?.checked_sub(number(image)?)
    }
}

/// The image that fits best; of equals the first one counts.
#[must_use]
pub fn choose<'a, T>(wanted: &Platform, images: &'a [(Platform, T)]) -> Option<&'a T> {
    let fitting = images.iter().filter_map(|(platform, image)| Some((wanted.distance(platform)?, image)));
    fitting.min_by_key(|(distance, _)| *distance).map(|(_, image)| image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_older_variant_is_chosen() {
        let images = ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "linux/386"];
        let images: Vec<_> = images.map(|name| (Platform::parse(name).expect("valid"), name)).into();
        let chosen = |wanted: &str| choose(&Platform::parse(wanted).expect("valid"), &images).copied();
        assert_eq!(chosen("amd64"), Some("linux/amd64"));
        assert_eq!(chosen("linux/arm64"), Some("linux/arm64/v8"));
        assert_eq!(chosen("arm"), Some("linux/arm/v7"));
        assert_eq!(chosen("linux/arm/v6"), Some("linux/arm/v5"));
        assert_eq!(chosen("linux/arm/v4"), None);
        assert_eq!(chosen("s390x"), None);
        let levels = [("linux/amd64/v3", 3), ("linux/amd64", 1)].map(|(p, n)| (Platform::parse(p).expect("valid"), n));
        assert_eq!(
            choose(&Platform::of_machine("x86_64"), &levels),
            Some(&1),
            "v3 may need more than this processor has"
        );
    }

    #[test]
    fn platforms_are_read_as_docker_writes_them() {
        assert_eq!(Platform::parse("aarch64").expect("valid").to_string(), "linux/arm64");
        assert_eq!(Platform::parse("linux/arm/v7").expect("valid").to_string(), "linux/arm/v7");
        for wrong in ["", "linux/", "windows/amd64", "a/b/c/d"] {
            Platform::parse(wrong).expect_err(wrong);
        }
    }
}
