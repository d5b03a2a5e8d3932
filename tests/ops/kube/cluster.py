"""A Kubernetes control plane of one's own on loopback: etcd, kube-apiserver,
kube-controller-manager and kube-scheduler, with kwok in the place of nodes. Scheduling, admission,
controllers and volumes' binding are real; pods are objects only, and no container runs.
"""
import csv
import json
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

HERE = Path(__file__).resolve().parent
KWOK = "v0.8.0"
KUBE_SCORE = "v1.20.0"
# How long anything may take before it counts as failed.
PATIENCE_S = 180
# Where each kind is that is looked at here.
GROUPS = {
    "controllerrevisions": "/apis/apps/v1",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "poddisruptionbudgets": "/apis/policy/v1",
}
PROGRAMS = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "etcd": "go.etcd.io/etcd/server/v3",
}


class Failed(Exception):
    """A check that did not hold, or a command that did not do what it had to."""


def version_of(module, file="go/go.mod"):
    """The version of a module in a go.mod, such as v1.36.3."""
    return re.search(rf"^\t{module} (v\S+)", (HERE / file).read_text(), re.M)[1]


def build(tools):
    """Builds everything into `tools`, from the Go module proxy."""
    tools.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
    kubernetes = version_of("k8s.io/kubernetes")
    # Without it the server calls itself v0.0.0, and kubectl and helm refuse it.
    flags = f"-s -w -X k8s.io/component-base/version.gitVersion={kubernetes}"
    for name, package in PROGRAMS.items():
        command = ["go", "build", "-mod=readonly", "-ldflags", flags, "-o", tools / name, package]
        subprocess.run(command, cwd=HERE / "go", env=env, check=True)
    for package in [
        f"sigs.k8s.io/kwok/cmd/kwok@{KWOK}",
        f"github.com/zegl/kube-score/cmd/kube-score@{KUBE_SCORE}",
    ]:
        command = ["go", "install", "-ldflags", "-s -w", package]
        subprocess.run(command, env={**env, "GOBIN": str(tools)}, check=True, cwd="/")
    # Helm tells charts this version of Kubernetes where it has no server to ask.
    major, minor = kubernetes[1:].split(".")[:2]
    flags = "-s -w"
    for part in ["chartutil", "lint/rules"]:
        flags += f" -X helm.sh/helm/v3/pkg/{part}.k8sVersionMajor={major}"
        flags += f" -X helm.sh/helm/v3/pkg/{part}.k8sVersionMinor={minor}"
    command = ["go", "build", "-mod=readonly", "-ldflags", flags, "-o", tools / "helm"]
    command.append("helm.sh/helm/v3/cmd/helm")
    subprocess.run(command, cwd=HERE.parent / "go", env=env, check=True)
    (tools / "stages.yaml").write_text(stages(env))


def stages(env):
    """What kwok makes of nodes and pods: its own stages, and the one beside this file."""
    command = ["go", "mod", "download", "-json", f"sigs.k8s.io/kwok@{KWOK}"]
    source = json.loads(subprocess.check_output(command, env=env, cwd="/"))["Dir"]
    found = []
    for kind in ["node/fast", "node/heartbeat", "pod/fast"]:
        found += sorted(Path(source, "kustomize/stage", kind).glob("*.yaml"))
    texts = [path.read_text() for path in found if path.name != "kustomization.yaml"]
    if len(texts) < 5:
        raise Failed(f"kwok {KWOK} has its stages elsewhere: found {len(texts)} in {source}")
    return "\n---\n".join([*texts, (HERE / "stages.yaml").read_text()])


def free_port():
    """A port that nobody has, outside of those that the kernel gives to outgoing connections."""
    for port in random.SystemRandom().sample(range(20000, 30000), 1000):
        with socket.socket() as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Failed("no port is free between 20000 and 30000")


class Cluster:
    """A control plane in a directory, ended with the block that it is made for."""

    def __init__(self, tools, directory):
        self.tools, self.directory, self.children = tools, Path(directory), {}
        self.kubeconfig = self.directory / "kubeconfig"
        path = f"{tools}:{os.environ['PATH']}"
        self.env = {"PATH": path, "HOME": str(directory), "KUBECONFIG": str(self.kubeconfig)}
        self.port = free_port()
        self.counts = {}

    def __enter__(self):
        try:
            self.boot()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        if kind and issubclass(kind, Exception):
            self.explain()
        for child in reversed(self.children.values()):
            child.terminate()
        for child in reversed(self.children.values()):
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def explain(self):
        """Says after a failure what the cluster and its processes have to say."""
        for name, child in self.children.items():
            ended = child.poll()
            state = "runs" if ended is None else f"ENDED with {ended}"
            print(f"\n-- {name} {state}; the end of its log:", file=sys.stderr)
            lines = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()
            print("\n".join(line[:300] for line in lines[-12:]), file=sys.stderr)
        for what in [["pods", "-o", "wide"], ["events", "--sort-by=.lastTimestamp"]]:
            done = self.run("kubectl", "get", "-A", "--request-timeout=10s", *what)
            print(f"\n-- {what[0]}\n{(done.stdout + done.stderr)[-4000:]}", file=sys.stderr)

    def start(self, name, *arguments):
        command = [str(part) for part in [self.tools / name, *arguments]]
        with open(self.directory / f"{name}.log", "w") as log:
            self.children[name] = subprocess.Popen(command, stdout=log, stderr=log, env=self.env)

    def boot(self):
        d, client, peer = self.directory, free_port(), free_port()
        self.start(
            "etcd", f"--data-dir={d}/etcd", "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )  # fmt: skip
        command = ["openssl", "genrsa", "-out", d / "accounts.key", "2048"]
        subprocess.run(command, check=True, capture_output=True)
        with open(d / "tokens.csv", "w") as file:
            csv.writer(file).writerow(["of-the-test", "tester", "1", "system:masters"])
        certificate = d / "certificates/apiserver.crt"
        self.start(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{client}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none", f"--secure-port={self.port}",
            f"--cert-dir={certificate.parent}", f"--token-auth-file={d}/tokens.csv",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={d}/accounts.key",
            f"--service-account-signing-key-file={d}/accounts.key",
        )  # fmt: skip
        self.kubeconfig.write_text(
            json.dumps({
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {
                    "server": f"https://127.0.0.1:{self.port}",
                    "certificate-authority": str(certificate)}}],
                "users": [{"name": "u", "user": {"token": "of-the-test"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            })
        )  # fmt: skip
        self.answers()
        self.tls = ssl.create_default_context(cafile=certificate)
        # Neither serves anything of its own; one of each needs no election.
        common = [f"--kubeconfig={self.kubeconfig}", "--secure-port=0", "--leader-elect=false"]
        self.start(
            "kube-controller-manager", *common, f"--root-ca-file={certificate}",
            "--horizontal-pod-autoscaler-sync-period=2s",
            # A machine with much else to do is late with kwok's heartbeats, and no node is down.
            "--node-monitor-grace-period=1h",
            f"--service-account-private-key-file={d}/accounts.key",
        )  # fmt: skip
        self.start("kube-scheduler", *common)
        self.start(
            "kwok", f"--kubeconfig={self.kubeconfig}", f"--config={self.tools}/stages.yaml",
            "--manage-all-nodes=true",
        )  # fmt: skip

    def answers(self):
        """Waits until the API server is ready. Nothing but asking it tells."""
        deadline = time.monotonic() + PATIENCE_S
        while self.run("kubectl", "get", "--raw=/readyz", "--request-timeout=5s").returncode:
            for name, child in self.children.items():
                if child.poll() is not None:
                    raise Failed(f"{name} ended with {child.returncode} before it was ready")
            if time.monotonic() > deadline:
                raise Failed(f"the API server was not ready within {PATIENCE_S} s")
            time.sleep(0.2)

    def run(self, *command, **more):
        command = [str(part) for part in command]
        command[0] = str(self.tools / command[0])
        return subprocess.run(command, env=self.env, text=True, capture_output=True, **more)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- kubectl and helm ---------------------------------------------------------------------

    def kubectl(self, *arguments, refused=None, **more):
        """Runs kubectl, which has to succeed, or to be refused with these words."""
        done = self.run("kubectl", *arguments, **more)
        return self.judge(["kubectl", *arguments], done, refused)

    def helm(self, verb, *arguments, namespace="n", refused=None, warned=False):
        """Runs helm, likewise. Warnings of the server are failures unless they are expected."""
        done = self.run("helm", verb, *arguments, "-n", namespace)
        said = self.judge(["helm", verb, *arguments], done, refused)
        if not refused and not warned and "warnings.go" in done.stderr:
            raise Failed(f"helm {verb} {arguments} made the server warn: {done.stderr}")
        self.count("refused" if refused else verb)
        return said

    def judge(self, command, done, refused):
        text = " ".join(map(str, command))
        if refused is None:
            if done.returncode:
                raise Failed(f"{text}\n{done.stdout}{done.stderr}")
            return done.stdout
        if not done.returncode:
            raise Failed(f"{text} was not refused; expected {refused!r}\n{done.stdout}")
        if refused not in done.stderr:
            raise Failed(f"{text} was refused, but without {refused!r}\n{done.stderr}")
        return done.stderr

    def apply(self, *objects, namespace="n"):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "-n", namespace, "-f", "-", input=text)

    # --- the API --------------------------------------------------------------------------------

    def request(self, path, timeout_s=30, **query):
        url = f"https://127.0.0.1:{self.port}{path}?{urlencode(query)}"
        request = urllib.request.Request(url, headers={"Authorization": "Bearer of-the-test"})
        return urllib.request.urlopen(request, timeout=timeout_s, context=self.tls)

    def path(self, kind, namespace):
        within = f"/namespaces/{namespace}" if namespace else ""
        return f"{GROUPS.get(kind, '/api/v1')}{within}/{kind}"

    def list(self, kind, namespace="n", **query):
        """The objects of a kind by name, and the resource version they were read at."""
        with self.request(self.path(kind, namespace), **query) as answer:
            found = json.load(answer)
        version = found["metadata"]["resourceVersion"]
        return {item["metadata"]["name"]: item for item in found["items"]}, version

    def get(self, kind, name, namespace="n"):
        found, _ = self.list(kind, namespace)
        if name not in found:
            raise Failed(f"{namespace} has no {kind}/{name}, but {sorted(found)}")
        return found[name]

    def events(self, kind, namespace, version, timeout_s, **query):
        """What happens to objects of a kind after a resource version."""
        query |= {"watch": "1", "resourceVersion": version, "timeoutSeconds": int(timeout_s) + 1}
        with self.request(self.path(kind, namespace), timeout_s + 5, **query) as stream:
            for line in stream:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                yield event

    def until(self, what, kind, done, namespace="n", **query):
        """Watches the objects of a kind until `done` says something of them, which is returned."""
        deadline = time.monotonic() + PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            objects, version = self.list(kind, namespace, **query)
            if said := done(objects):
                return said
            try:
                for event in self.events(kind, namespace, version, left, **query):
                    changed = event["object"]
                    objects.pop(changed["metadata"]["name"], None)
                    if event["type"] != "DELETED":
                        objects[changed["metadata"]["name"]] = changed
                    if said := done(objects):
                        return said
            except TimeoutError:
                break
        raise Failed(f"not within {PATIENCE_S} s: {what}; there are {sorted(objects)}")

    def history(self, kind, name, version, namespace="n"):
        """Every state that an object had after a resource version, up to the present one."""
        last = self.get(kind, name, namespace)["metadata"]["resourceVersion"]
        if int(last) <= int(version):
            return []
        states = []
        query = {"fieldSelector": f"metadata.name={name}"}
        for event in self.events(kind, namespace, version, 20, **query):
            states.append(event["object"])
            if int(event["object"]["metadata"]["resourceVersion"]) >= int(last):
                return states
        raise Failed(f"the history of {kind}/{name} ends before {last}")

    def pods(self, release, namespace="n"):
        """The pods of a release that are ready and stay, as their names and uids."""
        found, _ = self.list("pods", namespace, labelSelector=of(release))
        return ready(found)

    def until_pods(self, what, release, done, namespace="n"):
        """Watches the pods of a release until `done` says yes to the ready ones."""
        query = {"labelSelector": of(release)}
        yes = lambda found: (done(ready(found)) and [ready(found)]) or None
        return self.until(what, "pods", yes, namespace, **query)[0]


def of(release):
    return f"app.kubernetes.io/instance={release},app.kubernetes.io/component"


def conditions(thing):
    found = thing.get("status", {}).get("conditions", [])
    return {condition["type"] for condition in found if condition["status"] == "True"}


def ready(pods):
    return {
        name: pod["metadata"]["uid"]
        for name, pod in pods.items()
        if "deletionTimestamp" not in pod["metadata"] and "Ready" in conditions(pod)
    }
