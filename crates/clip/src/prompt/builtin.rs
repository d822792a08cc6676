//! The domains that come with pgclip: A3R's vehicles and persons. Data in a file of its own; the
//! extension's install script reads it from here into `clip_templates`.

use super::Domain;

/// What A3R appends to vehicle queries.
const SURVEILLANCE: &str = "{} image taken by traffic surveillance cameras";

/// Kinds of vehicles, and what has their names in it but is none.
const VEHICLES: &str = "
    ambulance | armored car | armoured car | articulated lorry | auto rickshaw | automobile | box truck
    bulldozer | bus | cab | camper van | campervan | car | cargo van | cement mixer truck | coach bus
    concrete mixer | convertible | coupe | coupé | crossover suv | delivery van | double decker
    double-decker | dump truck | excavator | fire engine | fire truck | flatbed | forklift
    garbage truck | hatchback | heavy truck | jeep | light truck | limo | limousine | lorry
    microbus | microbuses | minibus | minibuses | minicab | minivan | moped | motor vehicle
    motorbike | motorcar | motorcycle | motor scooter | mpv | panel van | patrol car | pick-up truck
    pickup | pickup truck | police car | police van | race car | refuse lorry | road roller
    roadster | rv | saloon car | scooter | sedan | semi trailer truck | semi-trailer | school bus
    sport utility vehicle | sports car | sports utility vehicle | sportscar | station wagon
    street sweeper | suv | tank truck | tanker truck | taxi | taxicab | tow truck | tractor | trailer truck
    trolleybus | truck | van | vehicle
    !bus lane | !bus shelter | !bus station | !bus stop | !bus terminal | !cable car | !car alarm
    !car dealer | !car dealership | !car key | !car park | !car wash | !taxi rank | !taxi stand
    !train car | !truck stop | !vehicle registration | !van gogh
";

/// Makes of the challenge's lexicon and others in wide use; names that are also common words count
/// in the spelling of the make alone.
const MAKES: &str = "
    acura | alfa romeo | aston martin | audi | balong heavy truck | baojun | =BAIC | bentley | benz
    bestune | bmw | bugatti | buick | byd | cadillac | chana | changan | chery | chevrolet | chevy | china-moto
    chrysler | citroen | citroën | dacia | daihatsu | daimler | dongfeng | faw | ferrari | fiat
    ford | forland | foton | =GAC | geely | =GMC | =Golden Dragon | great wall motors
    greatwall | hafei | haima | haval | hino | honda | hongqi | hongyan | hyundai | infiniti
    isuzu | iveco | jac | =Jaguar | jinbei | jmc | =Karma | kia | king long | kinglong
    lamborghini | lancia | landrover | land rover | leopaard | lexus | =Lincoln
    luxgen | maserati | maybach | mazda | mclaren | mercedes | mercedes benz | mini cooper
    =Mini | =MINI | mitsubishi | =MG | morris garage | morris-garage | nissan | =NIO
    opel | peugeot | polestar | porsche | range rover | renault | rivian | roewe | rolls royce | =SAIC
    =Scania | sgmw | shacman | shuanghuan | sinotruk | skoda | škoda | soueast
    ssangyong | =Style | subaru | suzuki | tesla | toyota | vauxhall
    volkswagen | volvo | vw | wuling | xiali | xpeng | yutong | zxauto
    !nikola tesla | !harrison ford
";

/// Words for people.
const PERSONS: &str = "
    adolescent | adult | baby | babies | bicyclist | biker | boy | businessman | businessmen
    businesswoman | businesswomen | child | children | commuter | crowd | customer | cyclist
    driver | elderly | employee | female | fireman | firemen | firefighter | gentleman | gentlemen | girl
    guard | guy | human | human being | infant | jogger | kid | lady | male | man | men | minor
    motorcyclist | motorist | officer | passenger | passerby | passersby | pedestrian | people
    person | persons | police officer | policeman | policemen | policewoman | policewomen | rider
    runner | schoolboy | schoolgirl | security guard | senior citizen | shopper | skateboarder | somebody
    someone | student | teen | teenager | toddler | walker | woman | women | worker | youngster
    youth
    !baby carriage | !baby stroller | !guard rail | !human rights | !man made | !man-made
    !minor road | !minor damage | !minor scratch
";

/// The built-in domains, in the order of precedence.
pub fn builtin() -> Vec<Domain> {
    let vehicle = Domain {
        name: "vehicle".to_owned(),
        words: entries(VEHICLES).chain(entries(MAKES)).collect(),
        templates: vec![SURVEILLANCE.to_owned()],
        strip_full_stop: true,
    };
    let person = Domain {
        name: "person".to_owned(),
        words: entries(PERSONS).collect(),
        templates: vec!["{}".to_owned()],
        strip_full_stop: true,
    };
    vec![vehicle, person]
}

fn entries(list: &str) -> impl Iterator<Item = String> {
    list.split(['|', '\n']).map(str::trim).filter(|e| !e.is_empty()).map(str::to_owned)
}
