"""RDS for tests: moto, made to take its time, to refuse, to lose answers, and to tell what it was asked.

    rds-layer.py PORT [ADDRESS]

What a client is shown of an instance or a snapshot is kept apart from what moto has: after a request that RDS carries
out by and by, the next looks are shown what is on the way there, one state a look.

    POST /layer/world    {"looks": 2, "unseen": 1, "taken": null}    empties everything and makes the world of the tests: `looks`
                         an operation takes, `unseen` of which find nothing, and a second instance that has the name `taken`
    GET  /layer/world                   every instance as it is, whatever clients are shown
    GET  /layer/calls                   every request that changes something: action, names, whether it was carried out
    POST /layer/faults   [{"action": "...", "kind": "drop|throttle|expire|deny", "skip": 0, "times": 1}]
    POST /layer/hold     {"name": "...", "status": "creating", "percent": 41}    a snapshot or instance that stays so
    POST /layer/pace     {"looks": 1, "unseen": 9}    from now on
    POST /layer/set      {"name": "...", "settings": {"monitoring_interval": 0}} changed behind everybody's back
"""

import copy
import json
import socket
import sys
import threading
import uuid
from urllib.parse import parse_qs

from moto.core import DEFAULT_ACCOUNT_ID
from moto.rds import models
from moto.rds.exceptions import DBInstanceNotFoundError
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple
from werkzeug.test import Client

REGION = "eu-central-1"
ORIGINAL = "shop-db"
SETTINGS = [
    "allocated_storage", "auto_minor_version_upgrade", "backup_retention_period", "ca_certificate_identifier",
    "copy_tags_to_snapshot", "db_instance_class", "db_parameter_group_name", "deletion_protection",
    "enable_iam_database_authentication", "enabled_cloudwatch_logs_exports", "engine", "engine_version", "iops",
    "kms_key_id", "max_allocated_storage", "monitoring_interval", "monitoring_role_arn", "multi_az",
    "option_group_name", "performance_insights_enabled", "performance_insights_retention_period", "port",
    "preferred_backup_window", "preferred_maintenance_window", "publicly_accessible", "storage_throughput",
    "storage_type", "vpc_security_group_ids",
]
CHANGES = {
    "CreateDBSnapshot", "ModifyDBInstance", "RestoreDBInstanceFromDBSnapshot", "RestoreDBInstanceToPointInTime",
    "RebootDBInstance", "AddTagsToResource", "RemoveTagsFromResource", "DeleteDBInstance", "DeleteDBSnapshot",
}

lock = threading.RLock()
shown = {}    # id -> states still to be shown: {"name", "status", "percent"} or None for "not there"
held = {}     # name -> state that stays
calls = []
faults = []
looks = 2
unseen = 1
asked = threading.local()


def backend():
    return models.rds_backends[DEFAULT_ACCOUNT_ID][REGION]


# What moto gives every instance: one id, and none of what it does not know.

made = models.DBInstance.__init__


def init(self, *args, **given):
    made(self, *args, **given)
    self.dbi_resource_id = "db-" + uuid.uuid4().hex[:24].upper()
    self.monitoring_interval = int(given.get("monitoring_interval") or 0)
    self.monitoring_role_arn = given.get("monitoring_role_arn")
    self.performance_insights_enabled = bool(given.get("enable_performance_insights"))
    self.performance_insights_retention_period = given.get("performance_insights_retention_period")


models.DBInstance.__init__ = init
updated = models.DBInstance.update


def update(self, **given):
    if "enable_performance_insights" in given:
        self.performance_insights_enabled = given.pop("enable_performance_insights")
    if "db_port_number" in given:
        self.port = given.pop("db_port_number")
    updated(self, **given)


models.DBInstance.update = update
backed_up = models.RDSBackend.create_auto_snapshot


def auto_snapshot(self, instance, name):
    # moto counts minutes, and tests do not take one.
    return backed_up(self, instance, f"{name}-{uuid.uuid4().hex[:4]}")


models.RDSBackend.create_auto_snapshot = auto_snapshot

# What clients are shown.


def view(thing, key, name, wanted):
    """Returns `thing` as it is shown now, or None. A look that may mean it takes one state away."""
    state = held.get(name)
    if state is None:
        queue = shown.get(key, [])
        names = {name} | {one["name"] for one in queue if one and one.get("name")}
        if queue and (wanted is None or wanted in names):
            state = queue.pop(0)
            if state is None:
                return None
    if state is None:
        return thing
    seen = copy.copy(thing)
    seen.status = state["status"]
    seen.percent_progress = state.get("percent")
    if state.get("name"):
        seen._db_instance_identifier = state["name"]
    return seen


all_instances = models.RDSBackend.describe_db_instances


def describe_instances(self, db_instance_identifier=None, filters=None):
    if not getattr(asked, "by_client", False):
        return all_instances(self, db_instance_identifier, filters)
    ids = (filters or {}).get("dbi-resource-id")
    found = []
    for one in list(self.databases.values()):
        if ids and one.dbi_resource_id not in ids:
            continue
        seen = view(one, one.dbi_resource_id, one.db_instance_identifier, db_instance_identifier)
        if seen is not None and db_instance_identifier in (None, seen.db_instance_identifier):
            found.append(seen)
    if db_instance_identifier and not found:
        raise DBInstanceNotFoundError(db_instance_identifier)
    return found


models.RDSBackend.describe_db_instances = describe_instances
all_snapshots = models.RDSBackend.describe_db_snapshots


def describe_snapshots(self, *args, **given):
    found = all_snapshots(self, *args, **given)
    if not getattr(asked, "by_client", False):
        return found
    name = given.get("db_snapshot_identifier")
    found = [view(one, one.db_snapshot_identifier, one.db_snapshot_identifier, name) for one in found]
    return [one for one in found if one is not None]


models.RDSBackend.describe_db_snapshots = describe_snapshots


def instance(name):
    return backend().databases.get(name)


def is_busy(name):
    one = instance(name)
    if one is None:
        return False
    return name in held or any(state is None or state["status"] != "available" for state in shown.get(one.dbi_resource_id, []))


def on_the_way(action, form, before):
    """Notes what the next looks are shown of what was just asked for."""
    def step(status, **more):
        return {"status": status, **more}

    if action == "CreateDBSnapshot":
        name = form["DBSnapshotIdentifier"]
        shown[name] = [step("creating", percent=10 + 80 * n // max(looks, 1)) for n in range(looks)]
        if looks:
            shown[name][:0] = [None] * unseen
    elif action.startswith("RestoreDBInstance"):
        name = form.get("DBInstanceIdentifier") or form["TargetDBInstanceIdentifier"]
        one = instance(name)
        # What the real one leaves as it is by default, and moto takes from the original.
        one.monitoring_interval, one.monitoring_role_arn = 0, None
        one.performance_insights_enabled, one.performance_insights_retention_period = False, None
        one.preferred_maintenance_window = "sun:01:00-sun:01:30"
        if looks:
            shown[one.dbi_resource_id] = [None] * unseen + [step("creating") for _ in range(looks)] + [step("backing-up")]
    elif action == "ModifyDBInstance" and form.get("NewDBInstanceIdentifier"):
        old, one = form["DBInstanceIdentifier"], instance(form["NewDBInstanceIdentifier"])
        if looks:
            shown[one.dbi_resource_id] = (
                [step("available", name=old)] + [step("renaming", name=old) for _ in range(looks)] + [None] * unseen + [step("rebooting")]
            )
    elif action in ("ModifyDBInstance", "RebootDBInstance"):
        one = instance(form["DBInstanceIdentifier"])
        status = "modifying" if action == "ModifyDBInstance" else "rebooting"
        shown[one.dbi_resource_id] = [step(status) for _ in range(looks)]


def pace(given):
    global looks, unseen
    looks, unseen = int(given.get("looks", 2)), int(given.get("unseen", 1))


def world(given):
    with lock:
        shown.clear(), held.clear(), calls.clear(), faults.clear()
        pace(given)
        client("/moto-api/reset")

        def do(action, **form):
            answer = client("/", {"Action": action, "Version": "2014-10-31", **form})
            assert answer.status_code == 200, answer.get_data(as_text=True)

        do("CreateDBParameterGroup", DBParameterGroupName="shop-parameters", DBParameterGroupFamily="mariadb10.11",
           Description="of the shop")
        do("CreateOptionGroup", OptionGroupName="shop-options", EngineName="mariadb", MajorEngineVersion="10.1",
           OptionGroupDescription="of the shop")
        do("CreateDBInstance", DBInstanceIdentifier=ORIGINAL, DBInstanceClass="db.r6g.large", Engine="mariadb",
           EngineVersion="10.11.6", AllocatedStorage="400", MaxAllocatedStorage="1000", StorageType="gp3", Iops="12000",
           StorageThroughput="500", MasterUsername="app", MasterUserPassword="app-pw-long", MultiAZ="true", Port="3307",
           DBParameterGroupName="shop-parameters", OptionGroupName="shop-options", BackupRetentionPeriod="7",
           PreferredBackupWindow="02:00-02:30", PreferredMaintenanceWindow="mon:04:00-mon:04:30",
           MonitoringInterval="60", MonitoringRoleArn="arn:aws:iam::123456789012:role/monitor",
           EnablePerformanceInsights="true", PerformanceInsightsRetentionPeriod="31",
           EnableIAMDatabaseAuthentication="true", DeletionProtection="true", PubliclyAccessible="false",
           AutoMinorVersionUpgrade="false", StorageEncrypted="true", KmsKeyId="arn:aws:kms:eu-central-1:1:key/k1",
           **{"VpcSecurityGroupIds.VpcSecurityGroupId.1": "sg-shop", "Tags.Tag.1.Key": "team",
              "Tags.Tag.1.Value": "shop", "EnableCloudwatchLogsExports.member.1": "error",
              "EnableCloudwatchLogsExports.member.2": "slowquery"})
        for name in ("nightly-0412", "hourly-0500", "hourly-0600"):
            do("CreateDBSnapshot", DBInstanceIdentifier=ORIGINAL, DBSnapshotIdentifier=name)
        if given.get("taken"):
            do("CreateDBInstance", DBInstanceIdentifier=given["taken"], DBInstanceClass="db.t3.micro", Engine="mariadb",
               EngineVersion="10.11.6", AllocatedStorage="20", MasterUsername="app", MasterUserPassword="app-pw-long")


def as_it_is():
    answer = []
    for one in backend().databases.values():
        settings = {name: getattr(one, name, None) for name in SETTINGS}
        tags = {tag["Key"]: tag["Value"] for tag in one.tags if not tag["Key"].startswith("rekindle:")}
        answer.append({"name": one.db_instance_identifier, "id": one.dbi_resource_id, "settings": settings, "tags": tags})
    return answer


def plain(environ):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    return body, {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def answer(start, value, status="200 OK", kind="application/json"):
    body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def error(start, code, message, status="400 Bad Request"):
    text = (
        '<ErrorResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>layer</RequestId></ErrorResponse>"
    )
    return answer(start, text, status, "text/xml")


def drop(environ, start):
    """Ends the connection in the place of an answer."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    start("200 OK", [("Content-Length", "1")])
    return [b"x"]


moto = DomainDispatcherApplication(create_backend_app)
SIGNED = {
    "Authorization": f"AWS4-HMAC-SHA256 Credential=x/20260101/{REGION}/rds/aws4_request, SignedHeaders=host, Signature=0"
}


def client(path, form=None):
    asked.by_client = False
    return Client(moto).post(path, data=form or {}, headers=SIGNED)


def layer(path, body, environ, start):
    given = json.loads(body or b"{}")
    reads = environ["REQUEST_METHOD"] == "GET"
    if path == "calls":
        return answer(start, calls)
    if path == "world" and reads:
        return answer(start, as_it_is())
    if path == "world":
        world(given)
    elif path == "faults":
        faults[:] = given
    elif path == "hold":
        held[given["name"]] = {"status": given["status"], "percent": given.get("percent")}
        if given["status"] == "available":
            del held[given["name"]]
    elif path == "pace":
        pace(given)
    elif path == "set":
        for name, value in given["settings"].items():
            setattr(instance(given["name"]), name, value)
    else:
        return answer(start, {"unknown": path}, "404 Not Found")
    return answer(start, {})


def application(environ, start):
    body, form = plain(environ)
    path = environ["PATH_INFO"]
    with lock:
        if path.startswith("/layer/"):
            return layer(path.removeprefix("/layer/"), body, environ, start)
        action = form.get("Action", "")
        fault = next((one for one in faults if one["action"] in (action, "*") and one.get("times", 1) != 0), None)
        if fault and fault.get("skip", 0) > 0:
            fault["skip"] -= 1
            fault = None
        kind = fault["kind"] if fault else None
        if fault:
            fault["times"] = fault.get("times", 1) - 1
        if kind == "throttle":
            return error(start, "Throttling", "Rate exceeded")
        if kind == "expire":
            return error(start, "ExpiredToken", "The security token included in the request is expired", "403 Forbidden")
        if kind == "deny":
            return error(start, "AccessDenied", f"not authorized to perform: rds:{action}", "403 Forbidden")
        name = form.get("DBInstanceIdentifier", "")
        if action in ("ModifyDBInstance", "CreateDBSnapshot", "RebootDBInstance") and is_busy(name):
            return error(start, "InvalidDBInstanceState", f"Instance {name} is not currently in the available state.")
        new_name = form.get("NewDBInstanceIdentifier", "")
        if action == "ModifyDBInstance" and instance(name) is not None and instance(new_name) is not None:
            # moto puts one in the place of the other.
            return error(start, "DBInstanceAlreadyExists", "DB instance already exists")
        result = Client(moto)
        asked.by_client = action.startswith("Describe")
        seen = result.post("/", data=body, headers={
            "Content-Type": environ.get("CONTENT_TYPE", ""), "Authorization": environ.get("HTTP_AUTHORIZATION", ""),
        })
        asked.by_client = False
        done = seen.status_code == 200
        if action in CHANGES:
            calls.append({
                "action": action, "done": done, "answered": kind != "drop",
                "name": form.get("DBInstanceIdentifier") or form.get("TargetDBInstanceIdentifier") or form.get("ResourceName"),
                "new_name": form.get("NewDBInstanceIdentifier"), "snapshot": form.get("DBSnapshotIdentifier"),
            })
            if done:
                on_the_way(action, form, None)
        if kind == "drop":
            return drop(environ, start)
        return answer(start, seen.get_data(as_text=True), seen.status, "text/xml")


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


if __name__ == "__main__":
    world({"looks": 0})
    run_simple(sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1", int(sys.argv[1]), application, threaded=True, request_handler=Quiet)
