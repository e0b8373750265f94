//! Columns, aligned by their widest cell.

use super::print::escape;

/// Rows of cells as text; the first is the heading. No trailing blanks.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// `45s`, `12m`, `5h`, `3d`: as much as a column needs. `seconds` may be negative where clocks were set back.
pub(crate) fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}

/// `512`, `1.5Ki`, `12Mi`, `1.2Gi`: two digits where one would say too little.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut unit = 0;
    let mut shown = count as f64;
    // 1023.5 would be shown as 1024.
    while shown >= 1023.5 && unit + 1 < units.len() {
        shown /= 1024.0;
        unit += 1;
    }
    let digits = format!("{shown:.1}");
    match digits.strip_suffix(".0") {
        Some(whole) => format!("{whole}{}", units[unit]),
        None if shown >= 9.95 => format!("{shown:.0}{}", units[unit]),
        None => format!("{digits}{}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["NAME", "AGE"], ["web", "1s"], ["a-long-one", ""]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect();
        assert_eq!(table(&rows), "NAME         AGE\nweb          1s\na-long-one\n");
    }

    #[test]
    fn ages() {
        let shown: Vec<String> = [-5, 0, 119, 120, 7199, 7200, 172_799, 172_800].into_iter().map(age).collect();
        assert_eq!(shown, ["0s", "0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn bytes_have_two_digits() {
        let counts = [0, 1023, 1024, 1536, 4096, 10_600, 1_047_000, 1_048_576, 268_435_456, 1_288_490_189, u64::MAX];
        let shown: Vec<String> = counts.into_iter().map(bytes).collect();
        assert_eq!(shown, ["0", "1023", "1Ki", "1.5Ki", "4Ki", "10Ki", "1022Ki", "1Mi", "256Mi", "1.2Gi", "16Ei"]);
    }
}
