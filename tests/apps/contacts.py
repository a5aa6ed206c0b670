"""Contacts of the apps behind the guides for lists."""

CONTACTS = (
    {"id": 1, "name": "Ada Lovelace", "phone": "+44 20 7946 0101", "owner": "alice", "card": "4000 0000 0000 0002"},
    {"id": 2, "name": "Grace Hopper", "phone": "+1 202 555 0102", "owner": "bob", "card": "4000 0000 0000 0010"},
    {"id": 3, "name": "Alan Turing", "phone": "+44 161 496 0103", "owner": "alice", "card": "4000 0000 0000 0028"},
    {"id": 4, "name": "Hedy Lamarr", "phone": "+43 1 555 0104", "owner": "bob", "card": "4000 0000 0000 0036"},
)
