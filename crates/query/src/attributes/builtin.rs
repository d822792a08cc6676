//! The attributes that come with pgclip: colour, type and make of vehicles, in the challenge's own
//! spelling. Data in a file of its own; the extension's install script reads it from here into
//! `clip_attributes`.

use super::Value;

/// Values with the words that name them; none: the value itself. The challenge's colours; words for
/// shades lead to them.
const COLOURS: &str = "
    black
    blue: blue | azure | navy | turquoise
    brown: brown | bronze
    green: green | olive
    grey: grey | gray | silver | charcoal
    orange
    pink: pink | magenta
    purple: purple | violet | lilac
    red: red | crimson | maroon | scarlet
    white
    yellow
";

const TYPES: &str = "
    Bus: bus | coach$ | double decker | school bus | trolleybus
    Microbus: microbus | microbuses | minibus | minibuses
    Minivan: minivan | van | mpv | people carrier
    SUV: suv | 4x4 | crossover$ | off-roader | sport utility vehicle | sports utility vehicle
    Sedan: sedan | saloon$ | saloon car
    Truck: truck | lorry | lorries | pickup | pick-up | !fire truck | !pickup point
";

const MAKES: &str = "
    Audi
    BAOJUN
    BESTUNE
    BMW
    BYD
    Balong Heavy Truck
    Bentley
    Benz: benz | mercedes | mercedes benz
    Buick
    Cadillac
    Chana
    Chery
    Chevrolet: chevrolet | chevy
    China-Moto
    Citroen: citroen | citroën
    Dongfeng
    FAW
    FORLAND
    FOTON
    Ford
    Geely
    Golden Dragon: =Golden Dragon
    GreatWall: greatwall | great wall
    HAFEI
    Haima
    Honda
    Hongyan
    Hyundai
    Infiniti
    Isuzu
    Iveco
    JAC
    JMC
    Jeep
    Jinbei
    KINGLONG: kinglong | king long
    Karma: =Karma
    Kia
    LEOPAARD
    Landrover: landrover | land rover | range rover
    Lexus
    Luxgen
    MORRIS-GARAGE: morris garage | =MG
    Mazda
    Mini: =MINI | mini$ | mini cooper
    Mitsubishi
    Nissan
    OPEL
    PEUGEOT
    Porsche
    ROEWE
    SGMW
    SKODA: skoda | škoda
    Shacman
    Shuanghuan
    Soueast
    Style: =Style
    Subaru
    Suzuki
    Toyota
    Volkswagen: volkswagen | vw
    Volvo
    XIALI
    Yutong
    ZXAUTO
";

/// The built-in values, all of the domain `vehicle`.
pub fn builtin() -> Vec<Value> {
    let colours =
        values("colour", COLOURS, &["a {} car", "a photo of a {} vehicle", "this is a {} car"]);
    let types = values("type", TYPES, &["a {}", "a photo of a {}", "this is a {}"]);
    let makes = values("make", MAKES, &["a {}", "a photo of a {}", "this is a {} car"]);
    colours.chain(types).chain(makes).collect()
}

fn values(
    attribute: &'static str,
    list: &'static str,
    templates: &'static [&'static str],
) -> impl Iterator<Item = Value> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(move |line| {
        let (value, words) = line.split_once(": ").unwrap_or((line, ""));
        Value {
            domain: "vehicle".to_owned(),
            attribute: attribute.to_owned(),
            value: value.to_owned(),
            words: words
                .split('|')
                .map(str::trim)
                .filter(|w| !w.is_empty())
                .map(str::to_owned)
                .collect(),
            templates: templates.iter().map(|t| t.to_string()).collect(),
        }
    })
}
