//! Guessing what was meant.

/// `; did you mean X?` when one of the known words is close to `wrong`, else nothing.
pub(in crate::source) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known).map_or_else(String::new, |word| format!("; did you mean {word}?"))
}

fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A text that long is no slip of the finger.
    if wrong.len() > 100 {
        return None;
    }
    let lower = wrong.to_lowercase();
    let distance = |word: &'a str| (strsim::damerau_levenshtein(&lower, &word.to_lowercase()), word);
    let by_distance: Vec<_> = known.into_iter().map(distance).collect();
    let (distance, word) = *by_distance.iter().min()?;
    if distance <= (wrong.chars().count() / 3).max(1) {
        return Some(word);
    }
    // `Prefix` for `PathPrefix`.
    let mut longer =
        by_distance.iter().filter(|(_, word)| lower.len() >= 4 && word.to_lowercase().contains(&lower));
    longer.next().filter(|_| longer.next().is_none()).map(|(_, word)| *word)
}

#[cfg(test)]
#[test]
fn the_closest_word_is_suggested_and_a_far_one_is_not() {
    let fields = ["hostnames", "parentRefs", "rules"];
    assert_eq!(did_you_mean("ruless", fields), "; did you mean rules?");
    assert_eq!(did_you_mean("hostname", fields), "; did you mean hostnames?");
    assert_eq!(did_you_mean("parentrefs", fields), "; did you mean parentRefs?");
    assert_eq!(did_you_mean("Prefix", ["Exact", "PathPrefix"]), "; did you mean PathPrefix?");
    assert_eq!(did_you_mean("service", fields), "");
    assert_eq!(did_you_mean(&"rules".repeat(100), fields), "");
    assert_eq!(did_you_mean("a", []), "");
}
