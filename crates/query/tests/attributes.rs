//! Which attributes a sentence names, by the built-in values and by made-up ones.

use pgclip_query::attributes::{Value, builtin, named};
use pgclip_query::enhance::{self, Lexicon};

/// `attribute=value,value` for each attribute that `text` names, in the domain it has or is given.
fn attributes(values: &[Value], text: &str, domain: Option<&str>) -> String {
    let domains = enhance::builtin();
    let lexicon = Lexicon::new(&domains);
    let query = lexicon.read(text);
    let Some(domain) = query.enhance(domain).unwrap().domain else { return String::new() };
    let found = named(&query, values, &domain);
    let shown: Vec<String> =
        found.iter().map(|n| format!("{}={}", n.attribute, n.values.join(","))).collect();
    shown.join(" ")
}

#[test]
fn values_are_found_by_their_words() {
    let values = builtin();
    for (text, want) in [
        ("a red Toyota sedan", "colour=red make=Toyota type=Sedan"),
        ("a gray van", "colour=grey type=Minivan"),
        ("Silver VANS", "colour=grey type=Minivan"),
        ("a grey Balong Heavy Truck Minivan", "colour=grey make=Balong Heavy Truck type=Minivan"),
        ("a white Style", "colour=white make=Style"),
        ("a car", ""),
        ("an old-style car", ""),
        ("a fire truck", ""),
        ("two lorries", "type=Truck"),
        ("a dark blue estate car", "colour=blue"),
    ] {
        assert_eq!(attributes(&values, text, None), want, "{text:?}");
    }
}

#[test]
fn only_what_describes_the_subject_counts() {
    let values = builtin();
    for (text, want) in [
        ("a red car beside a blue van", "colour=red"),
        ("a car beside a blue van", ""),
        ("a car next to a red house", ""),
        ("a car with a man in a red coat", ""),
        ("a van and a red car", "type=Minivan"),
        ("the driver's red car", "colour=red"),
        ("a car that is red", "colour=red"),
        ("a car that is not red", ""),
        ("a car in red", "colour=red"),
        ("a car in a red garage", ""),
        ("the car is white", "colour=white"),
        ("red or white van", "colour=red,white type=Minivan"),
        ("a black and white police car", "colour=black,white"),
        ("a white, dented car", "colour=white"),
        ("a car, red", "colour=red"),
        ("A white car. A red bus is behind it.", "colour=white"),
        ("behind a red bus, a white car", "colour=white"),
    ] {
        assert_eq!(attributes(&values, text, None), want, "{text:?}");
    }
}

/// What one alternative alone names would rule the other out.
#[test]
fn alternatives_share_what_all_of_them_name() {
    let values = builtin();
    for (text, want) in [
        ("a Toyota or a Honda", "make=Toyota,Honda"),
        ("a red Toyota or a white Honda", "colour=red,white make=Toyota,Honda"),
        ("a red car or a truck", ""),
        ("a red bus or a truck", "type=Bus,Truck"),
    ] {
        assert_eq!(attributes(&values, text, None), want, "{text:?}");
    }
}

#[test]
fn a_given_domain_takes_the_whole_sentence_where_it_names_no_subject() {
    let values = builtin();
    assert_eq!(attributes(&values, "red", Some("vehicle")), "colour=red");
    assert_eq!(attributes(&values, "red", None), "");
    assert_eq!(attributes(&values, "a red coat", Some("person")), "");
}

#[test]
fn a_value_without_words_is_its_own() {
    let value = |attribute: &str, value: &str, words: &[&str]| Value {
        domain: "vehicle".to_owned(),
        attribute: attribute.to_owned(),
        value: value.to_owned(),
        words: words.iter().map(|w| w.to_string()).collect(),
        templates: Vec::new(),
    };
    let values = [value("load", "gravel", &[]), value("colour", "beige", &["sand", "!sand bag"])];
    assert_eq!(attributes(&values, "a sand gravel truck", None), "colour=beige load=gravel");
    assert_eq!(attributes(&values, "a sand bag truck", None), "");
    assert_eq!(attributes(&values, "a beige truck", None), "");
}
