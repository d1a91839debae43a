//! What a key can mean. The keymap, the palette, the `x` menu, the hint row and `?` all read this one list.
//! Never here: what an action does; a verb means something only on a screen.

/// An area of the client, in the order of the digits 1 to 9, 0, - and =.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Area {
    /// The guided path and what runs now.
    Home,
    /// Models, versions, aliases.
    Models,
    /// Talking to a service.
    Playground,
    /// Rows.
    Datasets,
    /// Checking rows; comes with a later issue.
    Labelling,
    /// Runs and the form for new ones.
    Training,
    /// Suites and evaluations.
    Evaluation,
    /// Prompt templates; comes with a later issue.
    Prompts,
    /// Assistants; comes with a later issue.
    Assistants,
    /// Services, applications, keys, usage.
    Services,
    /// Everything that runs, waits or ran.
    Jobs,
    /// The machine and settings; comes with a later issue.
    System,
}

impl Area {
    /// All twelve.
    pub(crate) const ALL: [Area; 12] = [
        Area::Home,
        Area::Models,
        Area::Playground,
        Area::Datasets,
        Area::Labelling,
        Area::Training,
        Area::Evaluation,
        Area::Prompts,
        Area::Assistants,
        Area::Services,
        Area::Jobs,
        Area::System,
    ];

    /// The digit that opens it, fixed for ever.
    pub(crate) fn digit(self) -> char {
        ['1', '2', '3', '4', '5', '6', '7', '8', '9', '0', '-', '='][self as usize]
    }

    /// The letter after `g` that opens it, for keyboards where - and = move about.
    pub(crate) fn letter(self) -> char {
        ['h', 'm', 'p', 'd', 'l', 't', 'v', 'r', 'a', 's', 'j', 'y'][self as usize]
    }

    /// Catalogue key of its full name.
    pub(crate) fn name(self) -> &'static str {
        [
            "area.home",
            "area.models",
            "area.playground",
            "area.datasets",
            "area.labelling",
            "area.training",
            "area.evaluation",
            "area.prompts",
            "area.assistants",
            "area.services",
            "area.jobs",
            "area.system",
        ][self as usize]
    }

    /// Catalogue key of its short name for the tab bar.
    pub(crate) fn tab(self) -> &'static str {
        [
            "tab.home",
            "tab.models",
            "tab.playground",
            "tab.datasets",
            "tab.labelling",
            "tab.training",
            "tab.evaluation",
            "tab.prompts",
            "tab.assistants",
            "tab.services",
            "tab.jobs",
            "tab.system",
        ][self as usize]
    }
}

macro_rules! actions {
    ($($(#[doc = $doc:literal])* $name:ident, $key:literal;)*) => {
        /// What a key can mean, apart from changing the area.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Action {
            $($(#[doc = $doc])* $name,)*
            /// Change to an area.
            Go(Area),
        }

        impl Action {
            /// All of them but the twelve changes of area.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Action] = &[$(Action::$name,)*];

            /// Catalogue key of what it does in general; a screen may say it more exactly.
            pub(crate) fn about(self) -> &'static str {
                match self {
                    $(Action::$name => $key,)*
                    Action::Go(area) => area.name(),
                }
            }
        }
    };
}

actions! {
    /// One row up.
    Up, "act.up";
    /// One row down.
    Down, "act.down";
    /// One step, column or choice back.
    Left, "act.left";
    /// One step, column or choice on.
    Right, "act.right";
    /// One page up.
    PageUp, "act.page_up";
    /// One page down.
    PageDown, "act.page_down";
    /// To the first row.
    First, "act.first";
    /// To the last row.
    Last, "act.last";
    /// Open, or the obvious next act.
    Enter, "act.enter";
    /// One step out; never quits, never stops a job.
    Out, "act.out";
    /// To the next pane.
    NextPane, "act.next_pane";
    /// To the pane before.
    PreviousPane, "act.previous_pane";
    /// To the next sub-tab.
    NextTab, "act.next_tab";
    /// To the sub-tab before.
    PreviousTab, "act.previous_tab";
    /// Make or import something.
    New, "act.new";
    /// Change something.
    Edit, "act.edit";
    /// Make a new one with the same settings.
    Clone, "act.clone";
    /// Back to the default; revoke or drop with a question.
    Delete, "act.delete";
    /// Take back the last change of a form.
    Undo, "act.undo";
    /// Copy to the clipboard.
    Copy, "act.copy";
    /// Run, start, go on, try again.
    Run, "act.run";
    /// Stop, after a question.
    Stop, "act.stop";
    /// Pause or go on; presets in a form.
    Pause, "act.pause";
    /// Try in the playground.
    Try, "act.try";
    /// Read the log.
    Log, "act.log";
    /// How it is called from outside: command, curl, Python.
    Inspect, "act.inspect";
    /// Add to it or publish it.
    Add, "act.add";
    /// Judge a version on a suite.
    Evaluate, "act.evaluate";
    /// Add an adapter to the weights of its base.
    Merge, "act.merge";
    /// Store a model in fewer bits.
    Quantize, "act.quantize";
    /// Write it for other programs.
    Export, "act.export";
    /// All actions of the selected thing as a menu.
    Menu, "act.menu";
    /// Show only matching rows.
    Filter, "act.filter";
    /// The pane without its neighbours.
    Zoom, "act.zoom";
    /// Follow the live end.
    Follow, "act.follow";
    /// Another smoothing of the curve.
    Smooth, "act.smooth";
    /// Logarithmic axis.
    LogAxis, "act.log_axis";
    /// Mark it, or take the mark away.
    Mark, "act.mark";
    /// Compare what is marked.
    Compare, "act.compare";
    /// Flag a row for somebody else.
    Flag, "act.flag";
    /// Send it to Labelling; judge several rows together.
    Label, "act.label";
    /// Running jobs as an overlay.
    Jobs, "act.jobs";
    /// What this screen is and which keys work now.
    Help, "act.help";
    /// Find and run any action, object or setting.
    Palette, "act.palette";
    /// Ask the daemon again.
    Refresh, "act.refresh";
    /// Draw the whole screen again.
    Repaint, "act.repaint";
    /// To the area before.
    Back, "act.back";
    /// To the area that one came back from.
    Forward, "act.forward";
    /// Out, and from the top of an area out of the client.
    Quit, "act.quit";
    /// Stop what is in flight; twice: leave.
    Interrupt, "act.interrupt";
    /// Give the mouse back to the terminal, or take it again.
    Mouse, "act.mouse";
    /// Put the client to sleep and go back to the shell.
    Suspend, "act.suspend";
}

/// Actions that mean the same on every screen, in the order that help lists them.
pub(crate) const EVERYWHERE: &[Action] = &[
    Action::Help,
    Action::Palette,
    Action::Menu,
    Action::Jobs,
    Action::Zoom,
    Action::Out,
    Action::Back,
    Action::Forward,
    Action::Refresh,
    Action::Repaint,
    Action::Interrupt,
    Action::Quit,
    Action::Mouse,
    Action::Suspend,
];

/// An action that works now, with the words of the screen that offers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The action.
    pub(crate) action: Action,
    /// Catalogue key of a word or two for the hint row.
    pub(crate) label: &'static str,
}

/// An offer.
pub(crate) const fn offer(action: Action, label: &'static str) -> Offer {
    Offer { action, label }
}
