//! The rules of prompt enhancement, on the built-in domains and on made-up ones. How well the built-in
//! words do is measured in `queries.rs`.

use pgclip_query::enhance::{Domain, Lexicon, PromptError, Reason, builtin};

/// Domain found for `text` by the built-in words, or "" for none.
fn domain(text: &str) -> String {
    let domains = builtin();
    Lexicon::new(&domains).enhance(text, None).unwrap().domain.unwrap_or_default()
}

fn prompts(text: &str) -> Vec<String> {
    let domains = builtin();
    Lexicon::new(&domains).enhance(text, None).unwrap().prompts
}

#[test]
fn a_vehicle_query_gets_the_suffix_and_loses_its_full_stop() {
    let want = ["A white Mini image taken by traffic surveillance cameras"];
    assert_eq!(prompts("A white Mini."), want);
    assert_eq!(prompts("  A white Mini. \n"), want);
    assert_eq!(prompts("A white Mini"), want);
}

#[test]
fn a_person_query_loses_its_full_stop_only() {
    let text = "A walking man. He is in a tee shirt with long sleeves.";
    assert_eq!(prompts(text), ["A walking man. He is in a tee shirt with long sleeves"]);
}

#[test]
fn any_other_query_stays_as_it_is() {
    for text in
        ["A sunset over the sea. ", " red ", "", ".", "carpet, vandal, busy, bustling", "🚗"]
    {
        assert_eq!(domain(text), "", "{text:?}");
        assert_eq!(prompts(text), [text]);
    }
}

#[test]
fn vehicles_are_found() {
    for text in [
        "SUV",
        "suvs",
        "two buses",
        "BUS",
        "a fleet of taxis",
        "This is a pink Mini",
        "a red toyota",
        "A grey Balong Heavy Truck Minivan",
        "MORRIS-GARAGE",
        "morris garage",
        "a Golden Dragon",
        "a white Style",
        "green Land-Rover",
        "Mercedes-Benz",
        "a (blue) Kia!",
        "pick-up trucks",
    ] {
        assert_eq!(domain(text), "vehicle", "{text:?}");
    }
}

#[test]
fn persons_are_found() {
    for text in [
        "A female pedestrian who is a minor",
        "women",
        "three children.",
        "WOMAN IN RED",
        "cyclists",
        "someone with a backpack",
        "an elderly man with a hat",
    ] {
        assert_eq!(domain(text), "person", "{text:?}");
    }
}

#[test]
fn what_looks_like_a_vehicle_or_a_person_but_is_none() {
    for text in [
        "an empty bus stop",
        "a car park at night",
        "a house in Victorian style",
        "a mini skirt",
        "golden dragon statue",
        "good karma",
        "a red scarf",
        "a mandarin duck",
        "Vincent van Gogh",
        "minor damage to a wall",
        "scarlet cardigan",
        "a man-made lake",
    ] {
        assert_eq!(domain(text), "", "{text:?}");
    }
}

#[test]
fn the_head_of_the_query_decides_between_domains() {
    for (text, want) in [
        ("a man beside a white van", "person"),
        ("a white van with a man beside it", "vehicle"),
        ("a truck driver in a yellow vest", "person"),
        ("the driver's red car", "vehicle"),
        ("the drivers' car", "vehicle"),
        ("the driver of a red car", "person"),
        ("a woman's hat on a car", ""),
        ("a police car", "vehicle"),
        ("a police officer stopping a car", "person"),
        ("a car, man next to it", "vehicle"),
        ("people waiting at a bus stop", "person"),
        ("a bus at a bus stop", "vehicle"),
    ] {
        assert_eq!(domain(text), want, "{text:?}");
    }
}

#[test]
fn what_is_named_beside_the_head_decides_nothing() {
    for (text, want) in [
        ("a red house with a car in front", ""),
        ("a dog chasing a car", ""),
        ("a statue of a man", ""),
        ("a man's hat", ""),
        ("a street without cars", ""),
        ("no people", ""),
        ("a photo of a car", "vehicle"),
        ("the rear of a white truck", "vehicle"),
        ("behind the house, a black car", "vehicle"),
        ("next to a bus, a man in a hat", "person"),
        ("driving a red car", "vehicle"),
        ("red and white truck", "vehicle"),
    ] {
        assert_eq!(domain(text), want, "{text:?}");
    }
}

#[test]
fn the_reason_is_told() {
    let domains = builtin();
    let lexicon = Lexicon::new(&domains);
    let got = |text: &str, forced| lexicon.enhance(text, forced).unwrap();
    assert_eq!(got("two vans by a man", None).reason, Reason::Head("vans".to_owned()));
    assert_eq!(got("a barn", Some("vehicle")).reason, Reason::Given);
    assert_eq!(got("red", None).reason, Reason::NoWord);
    let beside = got("a house behind a van", None);
    assert_eq!((beside.reason, beside.matched), (Reason::NotHead, vec!["van".to_owned()]));
}

#[test]
fn entries_can_ask_for_what_stands_around_them() {
    let words = ["boat", "sail$", "!* race", "!toy *", "=Swan"];
    let domains = [made_up("boat", &words, &[])];
    let lexicon = Lexicon::new(&domains);
    let found = |text: &str| lexicon.enhance(text, None).unwrap().domain.is_some();
    for text in ["a boat", "boats", "a sail", "a sail in the wind", "sails flapping", "a Swan"] {
        assert!(found(text), "{text:?}");
    }
    for text in ["a boat race", "two boat races", "a toy boat", "a sail maker", "a swan"] {
        assert!(!found(text), "{text:?}");
    }
    assert!(found("a boat, race day"));
}

#[test]
fn matched_words_are_the_querys_own() {
    let domains = builtin();
    let got = Lexicon::new(&domains).enhance("Red TOYOTA sedans by a man", None).unwrap();
    assert_eq!(got.matched, ["TOYOTA", "sedans"]);
}

fn made_up(name: &str, words: &[&str], templates: &[&str]) -> Domain {
    Domain {
        name: name.to_owned(),
        words: words.iter().map(|w| w.to_string()).collect(),
        templates: templates.iter().map(|t| t.to_string()).collect(),
        strip_full_stop: false,
    }
}

#[test]
fn a_domain_can_be_given_and_must_exist() {
    let domains = [made_up("drone", &["quadcopter"], &["aerial photo of {}", "{} {}"])];
    let lexicon = Lexicon::new(&domains);
    let got = lexicon.enhance("a barn.", Some("drone")).unwrap();
    assert_eq!(got.domain.as_deref(), Some("drone"));
    assert_eq!(got.matched, [""; 0]);
    assert_eq!(got.prompts, ["aerial photo of a barn.", "a barn. a barn."]);
    let unknown = Err(PromptError::UnknownDomain("boat".to_owned()));
    assert_eq!(lexicon.enhance("a barn", Some("boat")), unknown);
}

#[test]
fn the_longest_entry_wins_then_the_earlier_domain() {
    let domains =
        [made_up("one", &["fire", "hose"], &[]), made_up("two", &["fire hose", "hose"], &[])];
    let lexicon = Lexicon::new(&domains);
    let found = |text: &str| lexicon.enhance(text, None).unwrap().domain.unwrap_or_default();
    assert_eq!(found("a fire hose"), "two");
    assert_eq!(found("a fire, hose"), "one");
    assert_eq!(found("fires"), "one");
    assert_eq!(found("hoses"), "one");
}

#[test]
fn scripts_without_spaces_match_inside_a_run() {
    let domains = [made_up("car", &["轿车"], &["{}，监控"])];
    let got = Lexicon::new(&domains).enhance("一辆红色轿车", None).unwrap();
    assert_eq!(got.matched, ["轿车"]);
    assert_eq!(got.prompts, ["一辆红色轿车，监控"]);
}

#[test]
fn odd_entries_and_texts_do_no_harm() {
    let domains = [made_up(
        "odd",
        &["", "!", "=", "!=", "  ", "'", "ſ", "İ", "*", "!*", "!* *", "$", "=$", "!a *"],
        &["{}"],
    )];
    let lexicon = Lexicon::new(&domains);
    for text in ["'s", "’s", "x's's", "s'", "a''", "İ’S", "\u{0}", "ß’ſ", "'sé"] {
        lexicon.enhance(text, None).unwrap();
    }
}
