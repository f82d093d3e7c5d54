"""Writes what CloudFormation makes of a SAM template: expand.py TEMPLATE OUT.

The translator is the one that AWS runs; it asks nobody.
"""

import json
import os
import sys
from unittest import mock

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


def main(source, target):
    with open(source) as f:
        template = yaml_parse(f)
    policies = mock.Mock()  # no managed policy is used by name
    policies.load.return_value = {}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"  # what sam deploy writes
    expanded = transform(template, {}, policies)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w") as f:
        json.dump(expanded, f, indent=1)


main(sys.argv[1], sys.argv[2])
