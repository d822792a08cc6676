//! The domains that come with pgclip: A3R's vehicles and persons. Data in a file of its own; the
//! extension's install script reads it from here into `clip_templates`.

use super::Domain;

/// What A3R appends to vehicle queries.
const SURVEILLANCE: &str = "{} image taken by traffic surveillance cameras";

/// Kinds of vehicles, and what has their names in it but is none.
const VEHICLES: &str = "
    4x4 | ambulance | armored car | armoured car | articulated lorry | auto rickshaw | automobile
    box truck | bulldozer | bus | cab | camper van | campervan | car | cargo van
    cement mixer truck | coach bus | concrete mixer | convertible | coupe | coupé | crossover suv
    delivery van | digger | double decker | double-decker | dump truck | excavator | fire engine
    fire truck | flatbed | forklift | garbage truck | hatchback | hearse | heavy truck | jeep
    light truck | limo | limousine | lorry | microbus | microbuses | minibus | minibuses | minicab
    minivan | moped | motor vehicle | motorbike | motorcar | motorcycle | motorhome
    motor scooter | mpv | panel van | patrol car | people carrier | pick-up truck | pickup
    pickup truck | police car | police van | quad bike | race car | refuse lorry | rickshaw
    road roller | roadster | rv | saloon car | scooter | sedan | semi trailer truck
    semi-trailer | school bus | snowplough | snowplow | sport utility vehicle | sports car
    sports utility vehicle | sportscar | station wagon | steamroller | street sweeper | suv
    tank truck | tanker truck | taxi | taxicab | tow truck | tractor | trailer truck | trolleybus
    truck | van | vehicle
    !bus stop | !cable car | !car park | !car show | !car wash | !motor show | !railway car
    !taxi rank | !taxi stand | !train car | !truck stop | !van gogh
    !* alarm | !* badge | !* battery | !* brand | !* brochure | !* cap | !* catalogue | !* company
    !* dealer | !* dealership | !* door | !* dress | !* emblem | !* engine | !* factory | !* fare
    !* fridge | !* golf | !* headlight | !* helmet | !* hood ornament | !* hoodie | !* horn
    !* insurance | !* jacket | !* key | !* keyring | !* lane | !* logo | !* magazine | !* manual
    !* map | !* mat | !* meter | !* museum | !* number plate | !* park sign | !* part
    !* parking lot | !* poster | !* radio | !* registration | !* rental | !* repair
    !* restaurant | !* route | !* seat | !* shelter | !* shirt | !* showroom | !* sign | !* skirt
    !* station | !* steering wheel | !* sticker | !* terminal | !* ticket | !* timetable | !* tire
    !* tyre | !* wheel | !* window | !* windscreen | !* windshield | !* inspection | !* crash test
    !bumper * | !cartoon * | !lego * | !matchbox * | !miniature * | !pedal * | !radio controlled *
    !remote control * | !remote controlled * | !scale model * | !a model * | !toy *
";

/// Makes of the challenge's lexicon and others in wide use; names that are also common words count
/// in the spelling of the make alone, or where no noun follows.
const MAKES: &str = "
    acura | alfa romeo | aston martin | audi | balong heavy truck | baojun | =BAIC | bentley | benz
    bestune | bmw | bugatti | buick | byd | cadillac | camry | chana | changan | chery | chevrolet
    chevy | china-moto | chrysler | citroen | citroën | corolla | corvette | dacia | daihatsu
    daimler | =Dodge | dodge ram | dongfeng | faw | ferrari | fiat | ford | forland | foton | =GAC
    geely | =GMC | =Golden Dragon$ | great wall motors | greatwall | hafei | haima | haval | hino
    honda | hongqi | hongyan | hyundai | infiniti | isuzu | iveco | jac | =Jaguar | jinbei | jmc
    =Karma$ | kia | king long | kinglong | lamborghini | lancia | landrover | land rover
    leopaard | lexus | =Lincoln$ | luxgen | maserati | maybach | mazda | mclaren | mercedes
    mercedes benz | mini cooper | mini countryman | mini$ | mitsubishi | =MG | morris garage
    morris-garage | nissan | =NIO | opel | peugeot | polestar | porsche | prius | range rover
    renault | rivian | roewe | rolls royce | =SAIC | =Scania | =SEAT | sgmw | shacman
    shuanghuan | sinotruk | skoda | škoda | soueast | ssangyong | =Style$ | subaru | suzuki | tesla
    toyota | vauxhall | volkswagen | volkswagen golf | volvo | vw | vw golf | wuling | xiali | xpeng | yutong | zxauto
    !fiat currency | !fiat money | !harrison ford | !nikola tesla
";

/// Words for people.
const PERSONS: &str = "
    adolescent | adult$ | anybody | anyone | athlete | attendant | baby$ | babies$ | beggar
    bicyclist | biker | boy | boyfriend | bride | brother | builder | businessman | businessmen
    businesswoman | businesswomen | child | children | cleaner | commuter | cop$ | couple$
    courier | crew$ | crew member | crowd$ | customer | cyclist | dad | daughter | driver
    elderly$ | employee | family$ | families$ | farmer | father | female$ | fireman | firemen
    firefighter | fisherman | fishermen | folk$ | footballer | friend | gentleman | gentlemen
    girl | girlfriend | granddad | grandfather | grandma | grandmother | grandpa | groom$ | guard$
    guy | he$ | hiker | human$ | human being | husband | individual$ | infant | jogger | kid | lad
    lady | male$ | man | mechanic | men | minor$ | mom | mother | motorcyclist | motorist | mum
    musician | neighbor$ | neighbour$ | nun | nurse | officer | operator | parent | passenger
    passer-by | passerby | passersby | pedestrian | pensioner | people | person | persons
    police officer | policeman | policemen | policewoman | policewomen | postman | priest
    protester | rider | runner | sailor | schoolboy | schoolchild | schoolchildren | schoolgirl
    security guard | senior citizen | she$ | shopper | sister | skateboarder | soldier
    somebody | someone | spectator | student | suspect | teen$ | teenager | thief | thieves
    toddler | tourist | traffic warden | traveler | traveller | twins$ | vendor | victim$
    visitor | waiter | waitress | walker | warden | wife | witness | woman | women | worker
    workman | workmen | youngster | youth$
    !childrens | !couple of | !crowd of | !human rights | !isle of man | !man cave | !man hole
    !man made | !passenger cabin | !passenger ferry | !passenger lounge
    !passenger plane | !passenger ship | !passenger train | !pedestrian area | !pedestrian light
    !pedestrian signal | !man-made | !mens | !pedestrian crossing$ | !pedestrian crossings$ | !peoples
    !womens
    !* ant | !* barrier | !* bathroom | !* bridge | !* card | !* changing room
    !* clinic | !* clothes | !* clothing | !* handbook | !* lane | !* licence
    !* license | !* magazine | !* mower | !* overpass | !* plane
    !* playground | !* restroom | !* room | !* seat | !* shoe | !* street
    !* toilet | !* toy | !* underpass | !* uniform | !* walkway | !* zone
    !bronze * | !cardboard * | !cartoon * | !gingerbread * | !iron * | !lego * | !marble *
    !plastic * | !snow * | !stick * | !stone * | !toy * | !wax *
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
