"""The state of one conversational signup: four fields of ours, and whatever the application adds."""

import time

from pydantic import BaseModel, ConfigDict, Field


class SignupSession(BaseModel):
    """Times are epoch seconds, as the specification has them."""

    model_config = ConfigDict(extra="allow")

    session_id: str
    created_at: float = Field(default_factory=time.time)
    last_updated: float = Field(default_factory=time.time)
    attempt_count: int = 0
