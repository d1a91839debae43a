//! Which devices there are, and which of them a job or a service gets. Modules that bring further backends (CUDA,
//! Vulkan) are found and loaded here, once per process. Never here: what is computed on a device.

use std::ffi::{CStr, CString, OsStr, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Once;

use llama_cpp_sys_2 as sys;
use serde::Serialize;

use super::BackendError;

/// Names the folder in which modules are looked for; without it, `backends` beside the program.
pub const BACKENDS_VARIABLE: &str = "HONE_BACKENDS";
/// Names the device to compute on, or several with commas between; without it, the rule of [`choose`] and [`span`].
pub const DEVICE_VARIABLE: &str = "HONE_DEVICE";

/// The ggml that this program is built from. A module says its own in a symbol called `hone_ggml`: ggml's structures
/// change between versions without its interface number changing.
const GGML: &str = env!("HONE_GGML");

/// What sort of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// A card with memory of its own.
    Gpu,
    /// A GPU that shares the machine's memory. Used only when named.
    IntegratedGpu,
    /// Something that helps the processor. Never chosen.
    Accelerator,
}

/// A device as its backend describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// ggml's name, for instance `CPU`, `CUDA0`, `Vulkan1`.
    pub name: String,
    /// The maker's name.
    pub description: String,
    /// Its sort.
    pub kind: DeviceKind,
    /// Where it sits on the bus. Two backends that drive the same card say the same.
    pub bus_id: Option<String>,
    /// Memory that nobody uses now, other processes counted, in bytes. Some backends know only the total.
    pub memory_free_bytes: u64,
    /// All of its memory, in bytes.
    pub memory_total_bytes: u64,
}

/// The devices of this machine, modules included, in the order in which backends were registered.
pub fn devices() -> Vec<Device> {
    load_modules();
    // SAFETY: the registry is initialised on first use; the index is below the count.
    unsafe { (0..sys::ggml_backend_dev_count()).map(|index| describe(sys::ggml_backend_dev_get(index))).collect() }
}

/// # Safety
/// `device` is one of the registry, which keeps devices for the life of the process.
unsafe fn describe(device: sys::ggml_backend_dev_t) -> Device {
    // SAFETY: the device is valid (caller); the struct is plain data that the call fills; its strings live as long
    // as the device, or are null.
    unsafe {
        let mut props: sys::ggml_backend_dev_props = std::mem::zeroed();
        sys::ggml_backend_dev_get_props(device, &mut props);
        let text = |raw: *const std::ffi::c_char| {
            (!raw.is_null()).then(|| CStr::from_ptr(raw).to_string_lossy().into_owned()).filter(|text| !text.is_empty())
        };
        Device {
            name: text(props.name).unwrap_or_default(),
            description: text(props.description).unwrap_or_default(),
            kind: match props.type_ {
                sys::GGML_BACKEND_DEVICE_TYPE_CPU => DeviceKind::Cpu,
                sys::GGML_BACKEND_DEVICE_TYPE_GPU => DeviceKind::Gpu,
                sys::GGML_BACKEND_DEVICE_TYPE_IGPU => DeviceKind::IntegratedGpu,
                _ => DeviceKind::Accelerator,
            },
            bus_id: text(props.device_id),
            memory_free_bytes: props.memory_free as u64,
            memory_total_bytes: props.memory_total as u64,
        }
    }
}

/// The registry's device called `name`.
pub(super) fn handle(name: &str) -> Option<sys::ggml_backend_dev_t> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a C string; the registry is initialised on first use.
    let device = unsafe { sys::ggml_backend_dev_by_name(name.as_ptr()) };
    (!device.is_null()).then_some(device)
}

/// The null-terminated list of `chosen` that llama.cpp takes; empty for the processor alone.
pub(crate) fn handles(chosen: &[Device]) -> Vec<sys::ggml_backend_dev_t> {
    chosen.iter().filter_map(|device| handle(&device.name)).chain([ptr::null_mut()]).collect()
}

/// What the person asked for in the environment, if anything.
pub fn wished() -> Option<String> {
    std::env::var(DEVICE_VARIABLE).ok().filter(|wish| !wish.trim().is_empty())
}

/// The one device for a job: of those named in `wish`, or else of all cards, the one with most free memory; the
/// processor when there is no card.
pub fn choose(devices: &[Device], wish: Option<&str>) -> Result<Device, BackendError> {
    let candidates = candidates(devices, wish)?;
    let most = most_free_first(&candidates).into_iter().next();
    let cpu = || candidates.iter().chain(devices).find(|device| device.kind == DeviceKind::Cpu).cloned();
    most.or_else(cpu).ok_or(BackendError::NoDevice)
}

/// The cards for a service that needs `bytes`: the fewest that hold it together, those with most free memory first.
/// Named cards are all used, whatever they hold. None means the processor.
pub fn span(devices: &[Device], wish: Option<&str>, bytes: u64) -> Result<Vec<Device>, BackendError> {
    let cards = most_free_first(&candidates(devices, wish)?);
    if wish.is_some() {
        return Ok(cards);
    }
    let mut held = 0u64;
    for (index, card) in cards.iter().enumerate() {
        held = held.saturating_add(card.memory_free_bytes);
        if held >= bytes {
            return Ok(cards[..=index].to_vec());
        }
    }
    Ok(Vec::new())
}

/// The devices that `wish` names, or all but those that are used only when named; each card once.
fn candidates(devices: &[Device], wish: Option<&str>) -> Result<Vec<Device>, BackendError> {
    let mut found: Vec<Device> = Vec::new();
    let Some(wish) = wish else {
        for device in devices.iter().filter(|device| matches!(device.kind, DeviceKind::Cpu | DeviceKind::Gpu)) {
            if device.bus_id.is_none() || found.iter().all(|other| other.bus_id != device.bus_id) {
                found.push(device.clone());
            }
        }
        return Ok(found);
    };
    for name in wish.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let device = devices.iter().find(|device| device.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let there = devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(", ");
            BackendError::UnknownDevice { name: name.to_owned(), there }
        })?;
        if !found.contains(device) {
            found.push(device.clone());
        }
    }
    Ok(found)
}

fn most_free_first(candidates: &[Device]) -> Vec<Device> {
    let card = |device: &&Device| matches!(device.kind, DeviceKind::Gpu | DeviceKind::IntegratedGpu);
    let mut cards: Vec<Device> = candidates.iter().filter(card).cloned().collect();
    // A stable sort: of equal cards the first stays first.
    cards.sort_by_key(|card| std::cmp::Reverse(card.memory_free_bytes));
    cards
}

/// Loads the modules of the folder. One that cannot be used is named on standard error and left out.
pub(crate) fn load_modules() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let named = std::env::var_os(BACKENDS_VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let Some(folder) = named.clone().or_else(beside_the_program) else { return };
        match modules(&folder) {
            Ok(paths) => paths.iter().for_each(|path| {
                if let Err(problem) = load(path) {
                    eprintln!("backend {}: {problem}; going on without it", path.display());
                }
            }),
            // Most machines have no such folder, and that is no news unless somebody named it.
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => eprintln!("backends folder {}: {error}; only the CPU is used", folder.display()),
        }
    });
}

fn beside_the_program() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.join("backends"))
}

/// Files named as ggml names its modules, in the order of their names.
fn modules(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
        if name.starts_with("libggml-") && name.ends_with(std::env::consts::DLL_SUFFIX) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Loads one module for the rest of the process.
fn load(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| "the path has a zero byte".to_owned())?;
    // SAFETY: a C string; the file is one that the user put into the folder of modules, to be run as part of this
    // program. It stays open, because ggml never unloads a backend either.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return Err(loader_error());
    }
    check_stamp(library)?;
    // SAFETY: a C string; the module is built from this program's own ggml (checked), so their structures agree.
    let registry = unsafe { sys::ggml_backend_load(name.as_ptr()) };
    if registry.is_null() {
        return Err(
            "ggml refused it (a line above says why, unless it finds nothing here that it can drive)".to_owned()
        );
    }
    Ok(())
}

fn loader_error() -> String {
    // SAFETY: returns null or a C string that lives until the next call of this family on this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "it cannot be loaded".to_owned();
    }
    // SAFETY: not null (checked).
    format!("it cannot be loaded ({})", unsafe { CStr::from_ptr(text) }.to_string_lossy())
}

/// Whether the module is built from the ggml of this program.
fn check_stamp(library: *mut c_void) -> Result<(), String> {
    // SAFETY: an open library and a C string.
    let stamp = unsafe { libc::dlsym(library, c"hone_ggml".as_ptr()) };
    if stamp.is_null() {
        return Err("it was not built for hone; build it with `make backends`".to_owned());
    }
    // SAFETY: modules define this symbol as a C string (kernels/backends/CMakeLists.txt).
    let stamp = unsafe { CStr::from_ptr(stamp.cast()) }.to_string_lossy();
    if stamp != GGML {
        return Err(format!(
            "it was built from {stamp}, this program from {GGML}; build it again with `make backends`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, kind: DeviceKind, free: u64) -> Device {
        let description = String::new();
        Device { name: name.into(), description, kind, bus_id: None, memory_free_bytes: free, memory_total_bytes: 80 }
    }

    fn machine() -> Vec<Device> {
        vec![
            device("CUDA0", DeviceKind::Gpu, 10),
            device("CUDA1", DeviceKind::Gpu, 40),
            device("CUDA2", DeviceKind::Gpu, 40),
            device("Vulkan0", DeviceKind::IntegratedGpu, 70),
            device("CPU", DeviceKind::Cpu, 90),
        ]
    }

    fn names(devices: &[Device]) -> Vec<&str> {
        devices.iter().map(|device| device.name.as_str()).collect()
    }

    #[test]
    fn a_job_gets_the_card_with_most_free_memory() {
        assert_eq!(choose(&machine(), None).unwrap().name, "CUDA1");
    }

    #[test]
    fn a_job_gets_what_was_named() {
        assert_eq!(choose(&machine(), Some("cuda0")).unwrap().name, "CUDA0");
        assert_eq!(choose(&machine(), Some("CUDA0, CUDA2")).unwrap().name, "CUDA2");
        assert_eq!(choose(&machine(), Some("cpu")).unwrap().name, "CPU");
        assert_eq!(choose(&machine(), Some("Vulkan0")).unwrap().name, "Vulkan0");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_names_there_are() {
        let error = choose(&machine(), Some("CUDA7")).unwrap_err().to_string();
        assert!(error.contains("CUDA7") && error.contains("CUDA0, CUDA1, CUDA2, Vulkan0, CPU"), "{error}");
    }

    #[test]
    fn without_a_card_it_is_the_processor() {
        let alone = [device("Vulkan0", DeviceKind::IntegratedGpu, 70), device("CPU", DeviceKind::Cpu, 1)];
        assert_eq!(choose(&alone, None).unwrap().name, "CPU");
        assert_eq!(names(&span(&alone, None, 1).unwrap()), [""; 0]);
        assert!(matches!(choose(&[], None), Err(BackendError::NoDevice)));
    }

    #[test]
    fn a_service_takes_the_fewest_cards_that_hold_it() {
        assert_eq!(names(&span(&machine(), None, 40).unwrap()), ["CUDA1"]);
        assert_eq!(names(&span(&machine(), None, 41).unwrap()), ["CUDA1", "CUDA2"]);
        assert_eq!(names(&span(&machine(), None, 90).unwrap()), ["CUDA1", "CUDA2", "CUDA0"]);
        assert_eq!(names(&span(&machine(), None, 91).unwrap()), [""; 0]);
    }

    #[test]
    fn a_service_takes_every_named_card() {
        assert_eq!(names(&span(&machine(), Some("CUDA0,CUDA1"), 1).unwrap()), ["CUDA1", "CUDA0"]);
        assert_eq!(names(&span(&machine(), Some("cpu"), 1).unwrap()), [""; 0]);
    }

    #[test]
    fn a_card_that_two_backends_drive_counts_once() {
        let mut twice = machine();
        for at in [1, 3] {
            twice[at].bus_id = Some("0000:01:00.0".into());
            twice[at].kind = DeviceKind::Gpu;
        }
        assert_eq!(choose(&twice, None).unwrap().name, "CUDA1");
        assert_eq!(names(&span(&twice, None, 90).unwrap()), ["CUDA1", "CUDA2", "CUDA0"]);
    }

    #[test]
    fn the_processor_is_listed_and_can_be_opened() {
        let cpu = devices().into_iter().find(|device| device.kind == DeviceKind::Cpu).expect("a CPU");
        assert!(cpu.memory_total_bytes > 0, "{cpu:?}");
        super::super::Backend::open(&cpu, 1).expect("opens");
    }
}
