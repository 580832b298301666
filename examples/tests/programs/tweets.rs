use super::run;

/// The rows of each table that was printed: a name, then numbers.
fn tables(text: &str) -> Vec<Vec<(String, Vec<u64>)>> {
    let mut tables = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("likes") {
            tables.push(Vec::new());
        } else if let Some(table) = tables.last_mut()
            && (line.starts_with("node") || line.starts_with("ledger"))
        {
            let (name, numbers) = line.split_at(6);
            let numbers = numbers.split_whitespace().map(|number| number.parse());
            table.push((name.to_owned(), numbers.collect::<Result<_, _>>().unwrap()));
        }
    }
    tables
}

#[test]
fn five_nodes_over_libp2p_come_to_the_ledger_though_two_were_cut_off() {
    let output = run("tweets", &["60"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}{error}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert!(error.is_empty(), "{error}");
    let [during, after] = &tables(&text)[..] else {
        panic!("two tables: {text}");
    };
    let behind = |row: &(String, Vec<u64>)| row.1[4];
    for table in [during, after] {
        let names: Vec<&str> = table.iter().map(|(name, _)| name.as_str()).collect();
        let nodes = ["node 0", "node 1", "node 2", "node 3", "node 4"];
        assert_eq!(names[..5], nodes);
        assert_eq!(names[5..], ["ledger"]);
    }
    // Whom it reaches, when two are cut off: they do not reach each other either.
    for (row, reached) in during.iter().zip([2, 2, 2, 0, 0]) {
        assert!(row.1[5] <= reached, "{text}");
        assert!(behind(row) > 0, "{text}");
    }
    let ledger = &after[5].1;
    assert!(ledger.iter().all(|count| *count > 0), "{text}");
    for row in &after[..5] {
        assert_eq!(row.1[..4], *ledger, "{text}");
        assert_eq!(behind(row), 0, "{text}");
    }
    let verdict = "They agree with the crowd's ledger, on all four counts of all 1,000 tweets.";
    assert_eq!(text.lines().last(), Some(verdict), "{text}");
}

#[test]
fn wrong_numbers_of_rounds_are_refused() {
    for arguments in [
        &["many"][..],
        &["0"],
        &["-1"],
        &["99999999999"],
        &[""],
        &["1", "2"],
    ] {
        let output = run("tweets", arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        assert!(error.contains("usage: tweets [ROUNDS]"), "{error}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
