"""`verisink`: the commands that need no server, and those that serve. Each is imported when it is used."""

from worker.cli.main import COMMANDS, LazyGroup

SERVING = {
    "up": ("web.commands:up", "Receiver, worker and scheduler in one process tree; migrates first."),
    "demo": ("web.demo:demo", "The main job end to end against the simulator."),
    "web": ("web.commands:web", "The receivers of a distributed deployment, supervised."),
    "worker": ("web.commands:worker", "The workers of a distributed deployment, supervised."),
    "simulate": ("web.simulator.command:simulate", "The providers' simulator as a server, with traffic and faults."),
}

main = LazyGroup(commands={**SERVING, **COMMANDS})

if __name__ == "__main__":
    main()
