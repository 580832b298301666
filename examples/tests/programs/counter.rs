use super::run;

#[test]
fn both_nodes_see_the_sum_of_what_they_added() {
    let output = run("counter", &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "ada adds 2 likes to tweet-1",
            "bob adds 3 likes to tweet-1",
            "ada sees 5 likes of tweet-1",
            "bob sees 5 likes of tweet-1",
        ]
    );
}
