//! The key that a misspelt one was meant to be.

/// The one of `known` that is nearest to `wrong`, the first of several. `None` if none is near:
/// more than a third of it, and more than two letters, would have to change.
pub fn nearest<K: AsRef<str>>(wrong: &str, known: impl Iterator<Item = K>) -> Option<K> {
    // Nobody means a known key with a name far longer than the longest.
    if wrong.len() > 128 {
        return None;
    }
    let (name, distance) = known
        .map(|name| {
            let distance = distance(wrong, name.as_ref());
            (name, distance)
        })
        .min_by_key(|(_, distance)| *distance)?;
    (distance <= (wrong.chars().count() / 3).max(2)).then_some(name)
}

/// Levenshtein's distance: insertions, deletions and replacements, and, because fingers do it, a
/// swap of neighbours counts as one.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (row, char) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in b.iter().enumerate() {
            let replaced = above[column] + usize::from(char != *other);
            let mut best = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            if column > 0 && last == Some(*other) && b[column - 1] == char {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
        last = Some(char);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_letters_and_swaps() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("lsiteners", "listeners"), 1);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn a_slip_finds_its_key_and_nonsense_finds_none() {
        let known = ["listeners", "log.retention.ms", "data.dir", "log.retention.mb"];
        let nearest = |wrong: &str| nearest(wrong, known.iter());
        assert_eq!(nearest("log.retention.m"), Some(&"log.retention.ms"));
        assert_eq!(nearest("listner"), Some(&"listeners"));
        assert_eq!(nearest("datadir"), Some(&"data.dir"));
        assert_eq!(nearest("colour.of.the.sky"), None);
        assert_eq!(nearest(&"x".repeat(1000)), None);
    }
}
