//! `/etc/subuid` and `/etc/subgid` (subuid(5)): whose lines, which of them can be used. Pure.
//!
//! As strict as newuidmap(1) is: a line that it would not understand gives no ids, so it must give none here.

use std::io::BufRead;
use std::ops::Range;

use super::{MapLine, SubIdRange};

/// More lines than this cannot be in one id map anyway (user_namespaces(7)).
const MOST_RANGES: usize = 340;
/// Warnings about single lines, per file.
const MOST_WARNINGS: usize = 3;

/// Whose ranges are wanted, and which ids they must not or may only contain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// For the warnings: `/etc/subuid`.
    pub(super) file: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) uid: u32,
    /// The caller's own uid in subuid, gid in subgid: mapping it twice is refused by the kernel.
    pub(super) own_id: u32,
    /// The ids that exist in our own user namespace.
    pub(super) map: &'a [MapLine],
}

/// What a file gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SubIds {
    pub(super) ranges: Vec<SubIdRange>,
    pub(super) warnings: Vec<String>,
}

/// Reads line by line; memory is bounded by the longest line, which the caller bounds.
pub(super) fn parse(mut text: impl BufRead, wanted: Wanted<'_>) -> std::io::Result<SubIds> {
    let mut gathered = Gathered { wanted, found: Vec::new(), oddities: Vec::new(), garbage: None, refused: 0 };
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if text.read_until(b'\n', &mut line)? == 0 {
            return Ok(gathered.finish());
        }
        number += 1;
        gathered.line(number, line.strip_suffix(b"\n").unwrap_or(&line));
    }
}

struct Gathered<'a> {
    wanted: Wanted<'a>,
    found: Vec<Range<u64>>,
    oddities: Vec<String>,
    /// Line number of the first line that is no `name:first:count`, and how many there are.
    garbage: Option<(usize, usize)>,
    /// Oddities that were counted only.
    refused: usize,
}

impl Gathered<'_> {
    fn line(&mut self, number: usize, line: &[u8]) {
        if line.is_empty() || line.starts_with(b"#") {
            return;
        }
        let mut fields = line.split(|&byte| byte == b':');
        let (Some(owner), Some(first), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return self.garbage(number);
        };
        if !self.is_ours(owner) {
            return;
        }
        let (Some(first), Some(count)) = (decimal(first), decimal(count)) else { return self.garbage(number) };
        if let Some(why) = self.refusal(first, count) {
            return self.odd(number, &why);
        }
        self.add(number, first..first + count);
    }

    fn is_ours(&self, owner: &[u8]) -> bool {
        self.wanted.name.is_some_and(|name| name.as_bytes() == owner)
            || decimal(owner).is_some_and(|uid| uid == u64::from(self.wanted.uid))
    }

    fn refusal(&self, first: u64, count: u64) -> Option<String> {
        // u32::MAX is -1, which the kernel keeps for "no id".
        let fits = first.checked_add(count).is_some_and(|end| end <= u64::from(u32::MAX));
        match () {
            () if count == 0 => Some("has no ids in it".to_owned()),
            () if !fits => Some("goes beyond the highest id 4294967294".to_owned()),
            () if first == 0 => Some("contains the host's root".to_owned()),
            () if (first..first + count).contains(&u64::from(self.wanted.own_id)) => {
                Some(format!("contains your own id {}", self.wanted.own_id))
            }
            () => None,
        }
    }

    /// Keeps what is new of a range and exists in our own user namespace.
    fn add(&mut self, number: usize, range: Range<u64>) {
        let mut visible: Vec<Range<u64>> = self
            .wanted
            .map
            .iter()
            .map(|line| {
                let start = u64::from(line.inside);
                intersection(&range, &(start..start + u64::from(line.count)))
            })
            .filter(|piece| !piece.is_empty())
            .collect();
        visible.sort_by_key(|piece| piece.start);
        if visible.iter().map(length).sum::<u64>() < length(&range) {
            let what = if visible.is_empty() { "does not exist" } else { "exists only in part" };
            self.odd(number, &format!("{what} in the user namespace that sandpod runs in"));
        }
        let fresh = self.found.iter().fold(visible.clone(), subtract);
        if fresh.iter().map(length).sum::<u64>() < visible.iter().map(length).sum() {
            self.odd(number, "overlaps an earlier line of yours");
        }
        if self.found.len() + fresh.len() > MOST_RANGES {
            return self.odd(number, "is one too many: an id map has at most 340 lines");
        }
        self.found.extend(fresh);
    }

    fn garbage(&mut self, number: usize) {
        let (_, count) = self.garbage.get_or_insert((number, 0));
        *count += 1;
    }

    fn odd(&mut self, number: usize, what: &str) {
        if self.oddities.len() < MOST_WARNINGS {
            self.oddities.push(format!("{}, line {number}: the range {what}", self.wanted.file));
        } else {
            self.refused += 1;
        }
    }

    fn finish(self) -> SubIds {
        let file = self.wanted.file;
        let mut warnings = self.oddities;
        if self.refused > 0 {
            warnings.push(format!("{file}: {} more lines of yours are odd", self.refused));
        }
        if let Some((first, count)) = self.garbage {
            warnings.push(format!(
                "{file}: {count} line(s) are not `name:first:count` in plain decimal and are ignored, as newuidmap \
                 ignores them; the first is line {first}"
            ));
        }
        SubIds { ranges: self.found.iter().filter_map(to_range).collect(), warnings }
    }
}

fn to_range(range: &Range<u64>) -> Option<SubIdRange> {
    Some(SubIdRange { start: u32::try_from(range.start).ok()?, count: u32::try_from(length(range)).ok()? })
}

/// Plain decimal. newuidmap takes a leading zero for octal and trips over a carriage return: neither is a number here.
fn decimal(field: &[u8]) -> Option<u64> {
    let plain = field.iter().all(u8::is_ascii_digit) && (field.len() == 1 || field.first() != Some(&b'0'));
    if plain { std::str::from_utf8(field).ok()?.parse().ok() } else { None }
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

fn intersection(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    a.start.max(b.start)..a.end.min(b.end)
}

fn subtract(pieces: Vec<Range<u64>>, taken: &Range<u64>) -> Vec<Range<u64>> {
    let around = |piece: Range<u64>| {
        let before = piece.start..piece.end.min(taken.start);
        let after = piece.start.max(taken.end)..piece.end;
        [before, after]
    };
    pieces.into_iter().flat_map(around).filter(|piece| !piece.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    const EVERYTHING: [MapLine; 1] = [MapLine { inside: 0, outside: 0, count: u32::MAX }];

    fn ana(map: &[MapLine]) -> Wanted<'_> {
        Wanted { file: "/etc/subuid", name: Some("ana"), uid: 1001, own_id: 1001, map }
    }

    fn read(text: &str) -> SubIds {
        parse(text.as_bytes(), ana(&EVERYTHING)).expect("memory does not fail")
    }

    fn ranges(found: &SubIds) -> Vec<(u32, u32)> {
        found.ranges.iter().map(|range| (range.start, range.count)).collect()
    }

    #[test]
    fn by_name_and_by_uid_in_the_order_of_the_file() {
        let found = read("bob:1:2\nana:300000:65536\n# ana:1:1\n\n1001:100000:10\nana2:5:5\n10011:7:7");
        assert_eq!(ranges(&found), [(300_000, 65536), (100_000, 10)]);
        assert_eq!(found.warnings, [] as [&str; 0]);
    }

    #[test]
    fn what_newuidmap_would_not_read_gives_no_ids() {
        for line in [
            "ana:100000:65536\r",
            "ana:0100000:65536",
            "ana:0x100:5",
            "ana: 100000:5",
            "ana:100000",
            "ana:100000:5:",
            "ana:-1:5",
            "ana::",
            "ana:99999999999999999999999:1",
            "\0\u{7f}",
        ] {
            let found = read(&format!("{line}\nana:200000:7\n"));
            assert_eq!(ranges(&found), [(200_000, 7)], "{line:?}");
            assert_eq!(found.warnings.len(), 1, "{line:?}: {:?}", found.warnings);
            assert!(found.warnings[0].contains("line 1"), "{:?}", found.warnings);
        }
    }

    #[test]
    fn dangerous_and_empty_ranges_are_refused_by_name() {
        for (line, why) in [
            ("ana:100000:0", "no ids"),
            ("ana:4294967000:65536", "beyond the highest id"),
            ("ana:18446744073709551615:1", "beyond the highest id"),
            ("ana:0:65536", "host's root"),
            ("ana:1000:10", "your own id 1001"),
        ] {
            let found = read(line);
            assert_eq!(found.ranges, [], "{line}");
            assert!(found.warnings[0].contains(why), "{line}: {:?}", found.warnings);
        }
        assert_eq!(ranges(&read("ana:4294967294:1")), [(u32::MAX - 1, 1)]);
    }

    #[test]
    fn overlaps_are_cut_from_the_later_line() {
        let found = read("ana:2000:100\nana:1950:200\nana:2010:5");
        assert_eq!(ranges(&found), [(2000, 100), (1950, 50), (2100, 50)]);
        assert_eq!(found.warnings.len(), 2);
    }

    #[test]
    fn a_nested_user_namespace_cuts_to_what_exists() {
        let map =
            [MapLine { inside: 0, outside: 1001, count: 1 }, MapLine { inside: 1, outside: 100_000, count: 65536 }];
        let wanted = Wanted { name: Some("root"), uid: 0, own_id: 0, ..ana(&map) };
        let found = parse("root:10000:100000\nroot:100000:65536".as_bytes(), wanted).expect("memory");
        assert_eq!(ranges(&found), [(10_000, 55_537)]);
        assert!(found.warnings[0].contains("only in part"), "{:?}", found.warnings);
        assert!(found.warnings[1].contains("does not exist"), "{:?}", found.warnings);
    }

    #[test]
    fn ten_thousand_lines_give_few_warnings_and_few_ranges() {
        let mut text = String::new();
        for number in 0..10_000u32 {
            writeln!(text, "ana:{}:10\ngarbage", 10_000 + number * 20).expect("a string takes all");
        }
        let found = read(&text);
        assert_eq!(found.ranges.len(), MOST_RANGES);
        assert_eq!(found.warnings.len(), MOST_WARNINGS + 2, "{:?}", found.warnings);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text: Vec<u8>) {
            parse(&text[..], ana(&EVERYTHING)).expect("memory does not fail");
        }

        #[test]
        fn ranges_are_safe_whatever_the_lines(lines in prop::collection::vec((0u64..6000, 0u64..3000), 0..20)) {
            let text: String = lines.iter().map(|(first, count)| format!("ana:{first}:{count}\n")).collect();
            let map = [MapLine { inside: 500, outside: 0, count: 4000 }];
            let found = parse(text.as_bytes(), ana(&map)).expect("memory does not fail");
            let mut ids = Vec::new();
            for range in &found.ranges {
                ids.extend(range.start..range.start + range.count);
            }
            let all = ids.len();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(all, ids.len(), "without overlaps");
            prop_assert!(ids.iter().all(|id| (500..4500).contains(id) && *id != 1001));
        }
    }
}
