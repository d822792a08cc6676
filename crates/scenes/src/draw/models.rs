//! The shapes of the six vehicle types, in metres: what tells them apart is all here.

use super::solid::Solid;
use crate::attributes::VehicleType;
use crate::dice::Dice;

/// Windows along a side: from x `front` to `back`, divided by pillars, between heights `z`.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    pub front: [f32; 2],
    pub back: [f32; 2],
    pub z: [f32; 2],
    pub count: u8,
}

/// A vehicle's shape. Edge numbers name the faces that carry lamps and glass.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub body: Solid,
    /// Greenhouse on the body, or the truck's cab.
    pub cabin: Solid,
    /// The load of a truck.
    pub cargo: Option<Solid>,
    pub windows: Windows,
    /// Edges of `cabin` that are windscreen and rear window, with the part of their height in
    /// glass.
    pub screens: [(usize, [f32; 2]); 2],
    /// Edges of `body` that carry the grille, the headlamps and the tail lamps.
    pub ends: [usize; 3],
    pub wheels: Vec<f32>,
    pub wheel_radius: f32,
    pub width: f32,
    pub length: f32,
    pub height: f32,
    /// Dark plastic along the lower edge and rails on the roof.
    pub cladding: bool,
    /// A sign over the windscreen and doors along the side.
    pub public: bool,
}

impl Model {
    /// The type's shape with proportions varied by a few per cent.
    pub fn new(kind: VehicleType, dice: &mut Dice) -> Model {
        let (long, high) = (dice.range(0.95, 1.05), dice.range(0.97, 1.04));
        let drop_side = dice.chance(0.25);
        let mut model = match kind {
            VehicleType::Sedan => sedan(),
            VehicleType::Suv => suv(),
            VehicleType::Minivan => minivan(),
            VehicleType::Microbus => microbus(),
            VehicleType::Bus => bus(),
            VehicleType::Truck => truck(drop_side),
        };
        model.stretch(long, high);
        model
    }

    fn stretch(&mut self, long: f32, high: f32) {
        let solids = [Some(&mut self.body), Some(&mut self.cabin), self.cargo.as_mut()];
        for solid in solids.into_iter().flatten() {
            for p in &mut solid.profile {
                *p = [p[0] * long, p[1] * high];
            }
            solid.z = solid.z.map(|z| z * high);
        }
        let w = &mut self.windows;
        for x in w.front.iter_mut().chain(&mut w.back).chain(&mut self.wheels) {
            *x *= long;
        }
        w.z = w.z.map(|z| z * high);
        self.length *= long;
        self.height *= high;
    }
}

/// Three boxes, low: bonnet, short greenhouse of two windows, boot.
fn sedan() -> Model {
    let body = [
        [2.3, 0.32],
        [2.33, 0.62],
        [2.2, 0.76],
        [0.95, 0.92],
        [-1.5, 0.96],
        [-2.25, 0.93],
        [-2.33, 0.6],
        [-2.28, 0.32],
    ];
    Model {
        body: Solid::new(&body, 0.9, 0.84),
        cabin: Solid::new(&[[1.05, 0.9], [0.25, 1.43], [-0.95, 1.45], [-1.75, 0.94]], 0.84, 0.58),
        cargo: None,
        windows: Windows { front: [0.72, 0.16], back: [-1.42, -0.86], z: [0.96, 1.37], count: 2 },
        screens: [(0, [0.1, 0.92]), (2, [0.08, 0.85])],
        ends: [0, 1, 5],
        wheels: vec![1.42, -1.4],
        wheel_radius: 0.33,
        width: 1.8,
        length: 4.6,
        height: 1.45,
        cladding: false,
        public: false,
    }
}

/// Two boxes, tall and upright: high bonnet, big wheels, dark cladding, roof rails, three windows.
fn suv() -> Model {
    let body = [
        [2.25, 0.45],
        [2.3, 0.95],
        [2.2, 1.1],
        [1.05, 1.16],
        [-2.2, 1.18],
        [-2.3, 1.1],
        [-2.28, 0.5],
        [-2.2, 0.45],
    ];
    Model {
        body: Solid::new(&body, 0.96, 0.93),
        cabin: Solid::new(&[[1.1, 1.14], [0.55, 1.8], [-1.95, 1.84], [-2.25, 1.16]], 0.93, 0.74),
        cargo: None,
        windows: Windows { front: [0.86, 0.44], back: [-2.1, -1.88], z: [1.21, 1.72], count: 3 },
        screens: [(0, [0.08, 0.92]), (2, [0.15, 0.9])],
        ends: [0, 0, 5],
        wheels: vec![1.42, -1.42],
        wheel_radius: 0.43,
        width: 1.94,
        length: 4.6,
        height: 1.86,
        cladding: true,
        public: false,
    }
}

/// One box with a short nose falling in one line with the windscreen; long, three big windows.
fn minivan() -> Model {
    let body = [
        [2.35, 0.25],
        [2.42, 0.55],
        [2.3, 0.74],
        [1.7, 0.98],
        [-2.3, 1.04],
        [-2.4, 0.9],
        [-2.38, 0.35],
        [-2.3, 0.25],
    ];
    Model {
        body: Solid::new(&body, 0.95, 0.92),
        cabin: Solid::new(&[[1.85, 0.94], [0.7, 1.74], [-2.05, 1.8], [-2.32, 1.0]], 0.92, 0.74),
        cargo: None,
        windows: Windows { front: [1.35, 0.62], back: [-2.22, -2.04], z: [1.05, 1.64], count: 3 },
        screens: [(0, [0.06, 0.95]), (2, [0.2, 0.9])],
        ends: [0, 1, 5],
        wheels: vec![1.55, -1.5],
        wheel_radius: 0.32,
        width: 1.9,
        length: 4.8,
        height: 1.8,
        cladding: false,
        public: false,
    }
}

/// A tall van on small wheels with a stub of a nose and four windows in a row.
fn microbus() -> Model {
    let body = [
        [2.65, 0.32],
        [2.72, 0.75],
        [2.62, 1.0],
        [2.3, 1.34],
        [-2.65, 1.36],
        [-2.7, 1.2],
        [-2.68, 0.4],
        [-2.6, 0.32],
    ];
    Model {
        body: Solid::new(&body, 0.98, 0.98),
        cabin: Solid::new(
            &[[2.35, 1.3], [1.75, 2.3], [1.4, 2.44], [-2.6, 2.46], [-2.68, 1.32]],
            0.98,
            0.82,
        ),
        cargo: None,
        windows: Windows { front: [2.0, 1.66], back: [-2.5, -2.46], z: [1.42, 2.08], count: 4 },
        screens: [(0, [0.08, 0.95]), (3, [0.35, 0.85])],
        ends: [0, 1, 5],
        wheels: vec![1.8, -1.65],
        wheel_radius: 0.34,
        width: 1.96,
        length: 5.4,
        height: 2.46,
        cladding: false,
        public: false,
    }
}

/// A long box with a flat front, a sign, doors and a band of seven windows.
fn bus() -> Model {
    let body =
        [[4.7, 0.35], [4.75, 1.35], [4.74, 1.42], [-4.7, 1.42], [-4.75, 1.35], [-4.72, 0.35]];
    Model {
        body: Solid::new(&body, 1.25, 1.25),
        cabin: Solid::new(
            &[[4.75, 1.4], [4.6, 2.95], [4.4, 3.08], [-4.55, 3.1], [-4.74, 1.4]],
            1.25,
            1.18,
        ),
        cargo: None,
        windows: Windows { front: [4.45, 4.4], back: [-4.5, -4.45], z: [1.5, 2.5], count: 7 },
        screens: [(0, [0.05, 0.68]), (3, [0.4, 0.85])],
        ends: [0, 0, 4],
        wheels: vec![2.9, -2.6],
        wheel_radius: 0.5,
        width: 2.5,
        length: 9.5,
        height: 3.1,
        cladding: false,
        public: true,
    }
}

/// A short cab before a tall box (or a low drop side), three axles.
fn truck(drop_side: bool) -> Model {
    let top = if drop_side { 1.65 } else { 3.0 };
    Model {
        body: Solid::new(
            &[[3.4, 0.5], [3.42, 0.95], [-3.6, 0.95], [-3.6, 0.6], [1.5, 0.55]],
            1.0,
            1.0,
        ),
        cabin: Solid::new(
            &[[3.5, 0.62], [3.52, 1.5], [3.2, 2.42], [2.9, 2.55], [1.85, 2.55], [1.8, 0.62]],
            1.12,
            1.04,
        ),
        cargo: Some(Solid::new(&[[1.6, 0.98], [1.6, top], [-3.65, top], [-3.65, 0.98]], 1.2, 1.2)),
        windows: Windows { front: [3.2, 2.98], back: [2.15, 2.15], z: [1.55, 2.25], count: 1 },
        screens: [(1, [0.08, 0.9]), (4, [0.7, 0.85])],
        ends: [0, 0, 2],
        wheels: vec![2.65, -1.7, -2.75],
        wheel_radius: 0.5,
        width: 2.3,
        length: 7.1,
        height: 3.0,
        cladding: false,
        public: false,
    }
}
