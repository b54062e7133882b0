"""Starting the library as `accelerate launch` does on machines of their own."""

import sys


def accelerate(processes: int) -> list[str]:
    """The head of a command that starts so many CPU processes, talking over gloo; what they run follows."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
    return [*command, "--dynamo_backend", "no", "--main_process_port", "0"]
