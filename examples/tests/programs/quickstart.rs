use super::run;

#[test]
fn the_quickstart_ends_with_three_replicas_that_agree() {
    let output = run("quickstart", &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for line in [
        "      alice  sees  bread = rye, eggs = six, milk = 2 litres",
        "      bob    sees  milk = 3 litres",
        "      bob    sees  bread = rye, milk = 3 litres",
        "   hidden   2 litres",
        "      alice  sees  bread = rye, milk = 5 litres",
        "      carol  sees  bread = rye, milk = 5 litres",
        "The three agree.",
    ] {
        assert!(
            text.lines().any(|printed| printed == line),
            "{line}\n{text}"
        );
    }
}
