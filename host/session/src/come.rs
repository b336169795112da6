//! What a session does when modules go and come: sites are retired, and armed in what has come.
//!
//! What comes is a part of its own (see `part`): it is put in by the very transactions that the first one was, so that
//! nothing of what is in place has to grow, and it is taken out again when its modules are gone.

use std::collections::{HashMap, VecDeque};

use trocar_abi::control::FUNCTIONS_MAX;
use trocar_symbols::{Glob, LoadedModule, Point, Spot};
use trocar_target::{Failure, FailureKind, Module, Process, maps};

use crate::live::{Session, site};
use crate::modules::Loaded;
use crate::part::Part;
use crate::reply::{Armed, Refused, Reply, Retired, Site};
use crate::request::RequestedPoint;
use crate::sites::{Missing, PlannedPlace, PlannedSites, plan_points, refused};

/// Most parts of a session that are in a target at a time: each has memory of its own there, and is looked after.
const PARTS_MAX: usize = 64;
const TOO_MANY: &str = "modules were loaded at more than 63 times since this command began, and points of it are in all of \
                        them; another command arms what is there now in one step";

/// The modules that `import:` points may mean as those which provide a function.
pub(crate) fn providers(loaded: &Loaded, points: &[RequestedPoint]) -> Vec<LoadedModule> {
    let named = |point: &RequestedPoint| match Point::parse(&point.text) {
        Ok(Point::Import { module: Some(module), .. }) => loaded.resolver.named(&module),
        _ => Vec::new(),
    };
    points.iter().flat_map(named).collect()
}

/// The place that a point names without a module.
fn anywhere(text: &str) -> Option<Spot> {
    let Ok(Point::Place(place) | Point::Return(place)) = Point::parse(text) else { return None };
    place.module.is_none().then_some(place.spot)
}

/// Whether a point is an address in the process, which means nothing in another module.
fn is_address(point: &RequestedPoint) -> bool {
    matches!(anywhere(&point.text), Some(Spot::Address(_)))
}

/// Whether a point means one function, wherever that is.
fn is_one_name(text: &str) -> bool {
    matches!(anywhere(text), Some(Spot::Name { name, .. }) if Glob::new(&name).literal().is_some())
}

/// What a site is known by when its module comes again, wherever it is loaded then.
fn key(site: &Site) -> (String, String, Option<String>, u64, Option<&'static str>) {
    (site.point.clone(), site.module.clone(), site.symbol.clone(), site.offset, site.role)
}

fn index(site: u32) -> usize {
    usize::try_from(site).unwrap_or(usize::MAX)
}

impl Session {
    /// Looks which modules have gone and come, and whether the kernel has come to a site.
    pub(crate) fn follow_modules(&mut self, say: &mut dyn FnMut(Reply)) -> Result<(), Failure> {
        self.retire(say);
        self.take_out(say);
        if let Some(at) = self.parts.iter_mut().find_map(|part| part.attachment.uprobed()) {
            let what = format!(
                "a uprobe of another tool was put on the site at {at:#x}, over the jump that was there"
            );
            return Err(Failure::new(FailureKind::NothingPatched, what).hint(
                "the probe was taken out, since the program would break when the uprobe goes; run the command again then",
            ));
        }
        if self.over {
            return Ok(());
        }
        match self.arrivals.look() {
            Ok(come) if come.is_empty() => Ok(()),
            Ok(come) => self.arm(&come, say),
            // The next turn finds that it has ended.
            Err(failure) if failure.kind == FailureKind::NoProcess => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Notes and says which sites have gone with their modules.
    fn retire(&mut self, say: &mut dyn FnMut(Reply)) {
        let (mut gone, mut addresses) = (Vec::new(), Vec::new());
        for part in &mut self.parts {
            let retired = part.attachment.retire();
            let at: Vec<u64> = part.attachment.site_addresses().collect();
            addresses.extend(retired.iter().filter_map(|i| at.get(*i)));
            gone.extend(part.numbers(&retired));
        }
        if addresses.is_empty() {
            return;
        }
        self.set_retired(&gone, true);
        self.arrivals.forget(&addresses);
        let module = |number: &u32| site(&self.attached.sites, *number).map_or("", |s| s.module.as_str());
        for sites in gone.chunk_by(|a, b| module(a) == module(b)) {
            say(Reply::Retired(Retired {
                pid: self.pid,
                session: self.id.clone(),
                probe: self.attached.probe.clone(),
                module: sites.first().map(module).unwrap_or_default().to_owned(),
                sites: sites.to_vec(),
            }));
        }
    }

    /// Takes parts out of which nothing is left but our memory, when nobody is in it.
    fn take_out(&mut self, say: &mut dyn FnMut(Reply)) {
        for mut part in std::mem::take(&mut self.parts) {
            match part.detach_if_over() {
                Some(detached) => {
                    self.drain_part(&mut part, say);
                    self.kept.keep(&mut part, self.probe.verified.manifest.maps.len(), detached);
                }
                None => self.parts.push(part),
            }
        }
    }

    /// Whether the module of a site was unloaded.
    pub(crate) fn is_retired(&self, site: u32) -> bool {
        self.retired.get(index(site)) == Some(&true)
    }

    pub(crate) fn set_retired(&mut self, sites: &[u32], to: bool) {
        for site in sites {
            self.retired.get_mut(index(*site)).into_iter().for_each(|retired| *retired = to);
        }
    }

    /// Arms what the points mean in modules that have come.
    fn arm(&mut self, come: &[Module], say: &mut dyn FnMut(Reply)) -> Result<(), Failure> {
        let functions = self.functions.len();
        match self.try_to_arm(come, say) {
            Ok(()) => Ok(()),
            // It is ending.
            Err(failure) if failure.kind == FailureKind::NoProcess => Ok(()),
            // The module went meanwhile, another trocar is at work, a thread would not stop.
            Err(failure) if failure.kind == FailureKind::NothingPatched => {
                self.functions.truncate(functions);
                let given_up = come.iter().filter(|module| !self.arrivals.again(module));
                let refusals: Vec<Refused> = given_up
                    .map(|m| {
                        let at = format!("{:#x}", m.range().start);
                        refused(&format!("{}:*", m.name), &at, "not_armed", &failure.message)
                    })
                    .collect();
                if !refusals.is_empty() {
                    say(Reply::Armed(self.armed(Vec::new(), refusals, None)));
                }
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    fn try_to_arm(&mut self, come: &[Module], say: &mut dyn FnMut(Reply)) -> Result<(), Failure> {
        let mut loaded = Loaded::of(Process::open(self.pid)?, &maps(self.pid)?, come);
        loaded.providers.clone_from(&self.providers);
        if self.around.throws_faults {
            loaded.set_throws_faults();
        }
        // What is in place already stays, though it was planned without: see ARCHITECTURE.md, known limits.
        self.around.throws_faults = loaded.throws_faults();
        let points: Vec<RequestedPoint> =
            self.probe.points.iter().filter(|p| !is_address(p)).cloned().collect();
        let mut planned = plan_points(&mut loaded, &points, self.probe.spans, Missing::IsElsewhere)?;
        self.refuse_second_places(&mut planned);
        if self.parts.len() >= PARTS_MAX {
            for place in std::mem::take(&mut planned.sites) {
                let Site { point, address, .. } = &place.site;
                planned.refusals.push(refused(point, address, "too_many", TOO_MANY));
            }
        }
        self.number(&mut planned);
        if planned.sites.is_empty() {
            if !planned.refusals.is_empty() {
                say(Reply::Armed(self.armed(Vec::new(), planned.refusals, None)));
            }
            return Ok(());
        }
        self.around.collector |= loaded.has_scanning_collector();
        let mut plan = self.probe.attach_plan(&planned, &loaded, &self.around)?;
        // It has its part of what the session is granted.
        plan.probe.first_records = 0;
        let part = Part::attach(&plan, &self.probe, &planned)?;
        if self.state == "suspended" {
            part.collector.suspend();
        }
        self.native |= part.stub_fuel.is_some();
        let (sites, occupied) = part.armed(planned.sites);
        planned.refusals.extend(occupied);
        let numbers = part.sites.iter().map(|number| index(*number).saturating_add(1)).max().unwrap_or(0);
        self.retired.resize(self.retired.len().max(numbers), false);
        let known = &mut self.attached.sites;
        for site in &sites {
            match known.binary_search_by_key(&site.site, |s| s.site) {
                Ok(at) => known.get_mut(at).into_iter().for_each(|known| *known = site.clone()),
                Err(at) => known.insert(at, site.clone()),
            }
        }
        let armed: Vec<u32> = sites.iter().map(|site| site.site).collect();
        self.set_retired(&armed, false);
        say(Reply::Armed(self.armed(sites, planned.refusals, Some(&part))));
        self.parts.push(part);
        Ok(())
    }

    fn armed(&self, sites: Vec<Site>, refusals: Vec<Refused>, part: Option<&Part>) -> Armed {
        let attachment = part.map(|p| &p.attachment);
        Armed {
            pid: self.pid,
            session: self.id.clone(),
            probe: self.attached.probe.clone(),
            sites,
            refusals,
            attach_ns: attachment.map_or(0, trocar_inject::Attachment::attach_ns),
            pause_ns: attachment.map_or(0, |a| a.stops().longest()),
            threads: attachment.map_or(0, trocar_inject::Attachment::threads),
        }
    }

    /// A name without a module stands for one place: as long as that is there, it is no other.
    fn refuse_second_places(&self, planned: &mut PlannedSites) {
        let known = self.attached.sites.iter();
        let there: Vec<&Site> = known.filter(|site| !self.is_retired(site.site)).collect();
        let first = |place: &PlannedPlace| {
            let point = &place.site.point;
            there.iter().find(|s| s.point == *point && is_one_name(point)).map(|s| s.module.clone())
        };
        for place in std::mem::take(&mut planned.sites) {
            let Some(module) = first(&place) else {
                planned.sites.push(place);
                continue;
            };
            let Site { point, module: here, address, .. } = &place.site;
            let detail = format!("{point} is probed in {module} already; this one is {here}:{point}");
            planned.refusals.push(refused(point, address, "ambiguous", &detail));
        }
    }

    /// Gives sites and functions their numbers in the session: those that they had, if they were there before.
    fn number(&mut self, planned: &mut PlannedSites) {
        let mut before: HashMap<_, VecDeque<u32>> = HashMap::new();
        for site in self.attached.sites.iter().filter(|site| self.is_retired(site.site)) {
            before.entry(key(site)).or_default().push_back(site.site);
        }
        let places = std::mem::take(&mut planned.sites).into_iter().map(|place| {
            let old = before.get_mut(&key(&place.site)).and_then(VecDeque::pop_front);
            (place, old)
        });
        let places: Vec<(PlannedPlace, Option<u32>)> = places.collect();
        let mut functions: HashMap<u32, u32> = HashMap::new();
        for (place, old) in &places {
            let known = old.and_then(|old| site(&self.attached.sites, old)?.function);
            if let (Some(function), Some(known)) = (place.site.function, known) {
                functions.entry(function).or_insert(known);
            }
        }
        let most = self.probe.functions_max.unwrap_or(FUNCTIONS_MAX);
        let mut next = u32::try_from(self.retired.len()).unwrap_or(u32::MAX);
        for (mut place, old) in places {
            if let Some(function) = place.site.function {
                let new = u32::try_from(self.functions.len()).unwrap_or(u32::MAX);
                let number = functions.get(&function).copied().or_else(|| (new < most).then_some(new));
                let Some(number) = number else {
                    let detail = format!("more than {most} functions; use a narrower pattern");
                    let Site { point, address, .. } = &place.site;
                    planned.refusals.push(refused(point, address, "too_many", &detail));
                    continue;
                };
                if number == new {
                    self.functions.push(planned.functions.get(index(function)).cloned().unwrap_or_default());
                    functions.insert(function, number);
                }
                place.site.function = Some(number);
            }
            place.site.site = old.unwrap_or(next);
            next = next.saturating_add(u32::from(old.is_none()));
            planned.sites.push(place);
        }
    }
}
