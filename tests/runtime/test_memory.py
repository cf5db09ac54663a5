import resource
import subprocess
import sys

from ddarts.runtime.memory import available_memory


def test_the_tightest_of_machine_and_control_group_counts(tmp_path):
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    2000 kB\n")
    cgroup.mkdir()
    assert available_memory(meminfo, cgroup) == 2000 * 1024
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("500\n")
    assert available_memory(meminfo, cgroup) == 2000 * 1024
    (cgroup / "memory.max").write_text("1500\n")
    assert available_memory(meminfo, cgroup) == 1000
    (cgroup / "memory.max").write_text("400\n")
    assert available_memory(meminfo, cgroup) == 0


def test_version_1_of_control_groups_is_read(tmp_path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("700\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("200\n")
    assert available_memory(tmp_path / "none", tmp_path) == 500


def test_without_any_word_a_share_of_the_machine_is_assumed(tmp_path):
    assert available_memory(tmp_path / "none", tmp_path) > 2**20


def test_the_limit_of_the_process_counts():
    code = "from ddarts.runtime.memory import available_memory; print(available_memory())"
    limit = 2**30
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert 0 < int(done.stdout) < limit
